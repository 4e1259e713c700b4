//! What a route says of streams: that the keys which only mean something together are there together.

use http::Method;

use super::Context;
use crate::config::{
    Upgrades,
    document::{self, GrpcWeb, UpgradeTo},
};

pub(super) fn upgrades(
    written: &document::Route,
    methods: Option<&[Method]>,
    to: &mut Context<'_>,
) -> Option<Upgrades> {
    let mut wanted = false;
    for protocol in &written.upgrade {
        let UpgradeTo::WebSocket = protocol.value;
        if wanted {
            to.error(&protocol.span, format!("`{}` is listed twice", protocol.shown));
        }
        wanted = true;
    }
    if !wanted {
        let (idle, expiry) = (written.stream_idle.as_ref(), written.close_on_expiry.as_ref());
        for span in idle.map(|at| &at.span).into_iter().chain(expiry.map(|at| &at.span)) {
            to.error_with_help(
                span,
                "this is about upgraded streams, and the route upgrades none",
                "add `upgrade: [websocket]`",
            );
        }
        return None;
    }
    if methods.is_some_and(|methods| !methods.contains(&Method::GET))
        && let Some(protocol) = written.upgrade.first()
    {
        let message = "a WebSocket begins as a GET, which this route does not take";
        to.error_with_help(&protocol.span, message, "add GET to `methods`");
    }
    Some(Upgrades {
        idle: written.stream_idle.as_ref().map_or(Upgrades::IDLE, |at| at.value),
        close_on_expiry: written.close_on_expiry.as_ref().is_none_or(|at| at.value),
    })
}

pub(super) fn translates_grpc_web(written: &document::Route, methods: Option<&[Method]>, to: &mut Context<'_>) -> bool {
    let Some(at) = &written.grpc_web else { return false };
    let translates = match at.value {
        GrpcWeb::Pass => false,
        GrpcWeb::Translate => true,
    };
    if translates && methods.is_some_and(|methods| !methods.contains(&Method::POST)) {
        let message = "gRPC-Web is sent by POST, which this route does not take";
        to.error_with_help(&at.span, message, "add POST to `methods`");
    }
    translates
}
