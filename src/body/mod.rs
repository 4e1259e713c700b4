//! Bodies on the wire, both ways, and the watch over a client's connection that both report to.
//! A leaf: it knows hyper's bodies and nothing of the gateway; the server and the gateway meet here.

mod bounds;
mod certificate;
mod copy;
mod framing;
mod pace;
mod received;
mod request;
mod response;
mod scratch;
mod serve;
mod switch;
mod wait;
mod watch;

pub use bounds::{Bounds, Protocol, Verdict};
pub use certificate::ClientCertificate;
pub use copy::{CopyReceiver, NoCopy};
pub use framing::{FramingFault, check_framing};
pub use received::{Received, ReceivedStream};
pub use request::{BodyChange, BodyFault, RequestBody, Unread};
pub use response::{BoxError, HowEnded, ResponseBody, StreamEnd, Tail, TrailerFilter};
pub use scratch::with_scratch;
pub use serve::{AlpnChoice, Alternative, Arrival, Aside, ConnectionInfo, Memory, Serve, TlsInfo};
pub(crate) use switch::Watched;
pub use switch::{Duplex, Switch, SwitchedStream};
pub(crate) use wait::StreamCut;
pub use watch::ConnectionWatch;
pub(crate) use watch::Exchange;
