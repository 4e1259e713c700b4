//! What goes wrong below this room, as refusals.

use std::error::Error;

use super::Refusal;
use crate::{
    body::{BodyFault, FramingFault},
    policy::Reason,
    telemetry::with_causes,
    upstream::UpstreamFault,
};

/// When a service that was too busy may be asked again: places are free again and again.
const BUSY_SECS: u64 = 1;

/// A head whose framing is in doubt.
pub(super) fn framing_refusal(fault: FramingFault) -> Refusal {
    match fault {
        FramingFault::TransferCoding | FramingFault::PaddedValue => {
            Refusal::of(Reason::MalformedRequest).because(fault.to_string()).closing()
        }
        FramingFault::TooManyFields => Refusal::of(Reason::HeadersTooLarge),
    }
}

/// A body that did not come as it should.
pub(super) fn body_refusal(fault: BodyFault) -> Refusal {
    match fault {
        BodyFault::TooLarge => Refusal::of(Reason::BodyTooLarge),
        BodyFault::TimedOut => Refusal::of(Reason::RequestTimeout).closing(),
        BodyFault::ClientGone => Refusal::of(Reason::ClientGone).closing(),
        BodyFault::Malformed => Refusal::of(Reason::MalformedRequest).closing(),
    }
}

/// A service that gave no answer.
pub(super) fn upstream_refusal(fault: &UpstreamFault) -> Refusal {
    let reason = reason_of(fault);
    let retry_after = (reason == Reason::UpstreamBusy).then_some(BUSY_SECS);
    Refusal { retry_after, ..Refusal::of(reason) }.because(with_causes(fault))
}

/// Why an answer broke off whose head was sent: a fault, or an error that wraps one.
pub(super) fn upstream_reason(error: &(dyn Error + 'static)) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref() {
            return reason_of(fault);
        }
        cause = error.source();
    }
    Reason::UpstreamReset
}

fn reason_of(fault: &UpstreamFault) -> Reason {
    match fault {
        UpstreamFault::Unreachable { .. } => Reason::UpstreamUnreachable,
        UpstreamFault::Tls { .. } => Reason::UpstreamTls,
        UpstreamFault::Reset(_) => Reason::UpstreamReset,
        UpstreamFault::Invalid(_) => Reason::UpstreamInvalid,
        UpstreamFault::Timeout | UpstreamFault::Deadline => Reason::UpstreamTimeout,
        UpstreamFault::Busy => Reason::UpstreamBusy,
        UpstreamFault::RequestBody(_) => Reason::ClientGone,
    }
}
