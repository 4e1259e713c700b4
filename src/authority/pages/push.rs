//! The page on the other device: what is asked, and three numbers of which the right one stands on the first screen. Whoever
//! has the token of the message may answer, once: a person here, or the service that got the message by the JSON API. The token
//! is in the query, which no log has.

use http::{Method, StatusCode};

use super::{
    Pages,
    views::{Explain, PushAsked},
};
use crate::{
    authority::Fault,
    endpoint::{self, Answer, At, Call, Fields},
    policy::Reason,
};

impl Pages<'_> {
    /// The page, and what is answered.
    pub(super) async fn push(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let query = Fields::read(call.query.unwrap_or_default().as_bytes());
        let token = query.text("token");
        if *call.method != Method::POST {
            return self.push_page(token, call).await;
        }
        if !endpoint::is_same_origin(call.headers, &self.config().url) {
            return Err(Fault::Call("The form is not one of ours."));
        }
        let fields = Fields::of_form(call.headers, call.body);
        let number = Some(fields.text("number")).filter(|number| *number != "deny");
        self.authority.push_decide(token, number, call.now).await?;
        let page = Explain {
            frame: self.frame(None, ""),
            title: if number.is_some() { "Approved" } else { "Not approved" },
            lead: if number.is_some() {
                "Go on at the other screen."
            } else {
                "Nothing was let through. If you did not ask for it, somebody may know your password: change it."
            },
            steps: &["You can close this page."],
            go: None,
            request_id: "",
        };
        Ok(self.html(&page, None, StatusCode::OK, Reason::Allowed))
    }

    async fn push_page(&self, token: &str, call: &Call<'_>) -> Result<Answer, Fault> {
        let shown = self.authority.push_shown(token, call.now).await?;
        let details = shown.details;
        let page = PushAsked {
            frame: self.frame(None, ""),
            details: vec![
                ("For", details.subject),
                ("What", details.what),
                ("From", details.client),
                ("When", At::secs(details.at).text),
            ],
            token,
            numbers: &shown.numbers,
        };
        Ok(self.html(&page, None, StatusCode::OK, Reason::Allowed))
    }
}
