//! gRPC by tonic, as client and as service. Messages are plain bytes: what they mean is nobody's business on the way.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Request, Response, Status, Streaming,
    client::Grpc as Client,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{
        Service,
        http::uri::PathAndQuery,
        tokio_stream::{self, Stream, StreamExt},
    },
    server::Grpc as Server,
    transport::Channel,
};

use super::PATIENCE;

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A function as tonic wants it.
#[derive(Clone)]
struct Method<F>(F);

impl<F, R, T, G> Service<R> for Method<F>
where
    F: FnMut(R) -> G,
    G: Future<Output = Result<T, Status>> + Send + 'static,
{
    type Response = T;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        Box::pin((self.0)(request))
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A gRPC service over HTTP/2 without TLS. It has `Unary` (sends back), `Who` (who calls, as it is told), `Fail`, `Slow`, `Count` (as
/// many messages as the first byte says), `Join` (all that comes, in one) and `Talk` (each as it comes).
pub struct GrpcService {
    pub port: u16,
}

impl GrpcService {
    /// Starts it.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        // It ends with the test binary, as the recorder does.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                            Ok::<_, std::convert::Infallible>(answer(request.map(tonic::body::Body::new)).await)
                        });
                        let io = TokioIo::new(stream);
                        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
                    });
                }
            });
        });
        Self { port }
    }
}

async fn answer(request: http::Request<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    let mut server = Server::new(Raw);
    match request.uri().path() {
        "/test.Echo/Unary" => {
            server.unary(Method(|r: Request<Bytes>| async { Ok(Response::new(r.into_inner())) }), request).await
        }
        "/test.Echo/Who" => server.unary(Method(|r: Request<Bytes>| async move { Ok(who(&r)) }), request).await,
        "/test.Echo/Fail" => {
            server.unary(Method(|_: Request<Bytes>| async { Err::<Response<Bytes>, _>(failure()) }), request).await
        }
        "/test.Echo/Slow" => {
            let slow = |r: Request<Bytes>| async {
                tokio::time::sleep(3 * PATIENCE).await;
                Ok(Response::new(r.into_inner()))
            };
            server.unary(Method(slow), request).await
        }
        "/test.Echo/Count" => {
            let count = |r: Request<Bytes>| async move {
                let all = (0..r.into_inner()[0]).map(|number| Ok(Bytes::from(vec![number])));
                let answers: Answers = Box::pin(tokio_stream::iter(all));
                Ok(Response::new(answers))
            };
            server.server_streaming(Method(count), request).await
        }
        "/test.Echo/Join" => {
            let join = |r: Request<Streaming<Bytes>>| async {
                let (mut all, mut parts) = (Vec::new(), r.into_inner());
                while let Some(part) = parts.message().await? {
                    all.extend(part);
                }
                Ok(Response::new(Bytes::from(all)))
            };
            server.client_streaming(Method(join), request).await
        }
        "/test.Echo/Talk" => {
            let talk = |r: Request<Streaming<Bytes>>| async {
                let answers: Answers = Box::pin(r.into_inner());
                Ok(Response::new(answers))
            };
            server.streaming(Method(talk), request).await
        }
        other => Status::unimplemented(other.to_owned()).into_http(),
    }
}

fn who(request: &Request<Bytes>) -> Response<Bytes> {
    let of = |name: &str| request.metadata().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let said = ["x-auth-subject", "te", "grpc-timeout", "content-type", "authorization"].map(of).join("|");
    let mut response = Response::new(said.into());
    response.metadata_mut().insert("x-upstream", "tonic".parse().unwrap());
    response
}

/// What `Fail` ends with.
pub fn failure() -> Status {
    let mut status = Status::not_found("100 % of it: grüße");
    status.metadata_mut().insert("x-upstream", "tonic".parse().unwrap());
    status
}

/// A client of the gateway, with a token in each call.
pub struct GrpcClient {
    runtime: Runtime,
    channel: Channel,
    token: Option<String>,
}

impl GrpcClient {
    /// Connects to a plain listener.
    pub fn connect(port: u16, token: Option<String>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap().timeout(PATIENCE);
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self { runtime, channel, token }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }

    async fn ready(&self) -> Client<Channel> {
        let mut client = Client::new(self.channel.clone());
        client.ready().await.unwrap();
        client
    }

    /// Calls a method with one message for one.
    pub fn unary(&self, method: &str, message: &[u8], timeout: Option<Duration>) -> Result<Response<Bytes>, Status> {
        let mut request = self.request(Bytes::copy_from_slice(message));
        if let Some(timeout) = timeout {
            request.metadata_mut().insert("grpc-timeout", format!("{}m", timeout.as_millis()).parse().unwrap());
        }
        self.runtime.block_on(async { self.ready().await.unary(request, path(method), Raw).await })
    }

    /// Calls a method with one message for many.
    pub fn count(&self, count: u8) -> Result<Vec<Bytes>, Status> {
        let request = self.request(Bytes::from(vec![count]));
        self.runtime.block_on(async {
            let answer = self.ready().await.server_streaming(request, path("Count"), Raw).await?;
            answer.into_inner().collect::<Vec<_>>().await.into_iter().collect()
        })
    }

    /// Calls a method with many messages for one.
    pub fn join(&self, parts: Vec<Bytes>) -> Result<Bytes, Status> {
        let request = self.request(tokio_stream::iter(parts));
        self.runtime
            .block_on(async { Ok(self.ready().await.client_streaming(request, path("Join"), Raw).await?.into_inner()) })
    }

    /// Talks: each message is sent when the one before has come back, and `pause` has passed.
    pub fn talk(&self, messages: usize, pause: Duration) -> Result<usize, Status> {
        self.runtime.block_on(async {
            let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(1);
            let outgoing = tokio_stream::wrappers::ReceiverStream::new(receive);
            let mut client = self.ready().await;
            send.send(Bytes::from_static(b"0")).await.unwrap();
            let mut answers = client.streaming(self.request(outgoing), path("Talk"), Raw).await?.into_inner();
            for number in 0..messages {
                let answer = answers.message().await?.unwrap();
                assert_eq!(answer, number.to_string());
                tokio::time::sleep(pause).await;
                if number + 1 < messages {
                    send.send(Bytes::from((number + 1).to_string())).await.unwrap();
                }
            }
            drop(send);
            assert_eq!(answers.message().await?, None);
            Ok(messages)
        })
    }
}

fn path(method: &str) -> PathAndQuery {
    format!("/test.Echo/{method}").parse().unwrap()
}
