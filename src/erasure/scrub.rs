//! Taking the person out of what is left of a deletion: whose values go from the audit log, and which path is theirs there. The record
//! itself loses them in the commit that ends it; what stays of it names nobody but who asked for somebody else's.

use super::record::Erasure;
use crate::{config::ValueSource, route::NormalPath, telemetry::audit::Struck};

/// Whose values go from the audit log; nobody's, once they are gone from the record.
pub(super) fn struck(erasure: &Erasure) -> Option<Struck> {
    let personal = erasure.personal.as_ref()?;
    let mut subjects: Vec<Box<str>> = personal.token_subject.iter().cloned().collect();
    // Another claim's value may be another person's subject.
    if erasure.whose.claim.is_subject() && !subjects.contains(&personal.subject) {
        subjects.push(personal.subject.clone());
    }
    Some(Struck {
        id: erasure.id.clone(),
        issuer_url: erasure.whose.issuer_url.clone(),
        subjects,
        request_ids: erasure.proof.request_id.iter().cloned().collect(),
        under: personal.under.clone(),
        until: erasure.gone_at,
    })
}

/// The path that is the person's: up to the segment that names them, in normal form. The last one, where several have the value: that
/// of a tenant is not one of its people's. `None` where the path names nobody: it is everybody's.
pub(super) fn theirs(path: &str, source: &ValueSource, subject: &str) -> Option<Box<str>> {
    match source {
        ValueSource::Path(_) => {}
        ValueSource::Caller | ValueSource::Query(_) | ValueSource::Body(_) => return None,
    }
    let path = NormalPath::parse(path).ok()?;
    let named = path.segments().iter().rposition(|segment| segment == subject)?;
    // A slash before each segment, and one behind the last that is kept.
    let end = path.as_str().match_indices('/').nth(named + 1).map_or(path.as_str().len(), |(at, _)| at);
    path.as_str().get(..end).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_that_names_a_person_is_theirs_and_no_more_of_it() {
        let theirs = |path: &str, subject: &str| theirs(path, &ValueSource::Path("id".into()), subject);
        assert_eq!(theirs("/accounts/42", "42").as_deref(), Some("/accounts/42"));
        assert_eq!(theirs("/accounts/42/all", "42").as_deref(), Some("/accounts/42"));
        assert_eq!(
            theirs("/tenants/7/accounts/7", "7").as_deref(),
            Some("/tenants/7/accounts/7"),
            "not all of the tenant"
        );
        assert_eq!(theirs("/accounts/a%40b.c", "a@b.c").as_deref(), Some("/accounts/a%40b.c"));
        assert_eq!(theirs("/accounts/421", "42"), None);
        assert_eq!(theirs("/accounts", "42"), None);
        for elsewhere in [ValueSource::Caller, ValueSource::Query("id".into()), ValueSource::Body("id".into())] {
            assert_eq!(super::theirs("/accounts/42", &elsewhere, "42"), None, "such a path is everybody's");
        }
    }
}
