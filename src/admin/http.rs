//! Health and metrics over HTTP, for monitoring: read-only, without a password, on loopback unless told otherwise.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 while the process answers |
//! | `/readyz` | 200 when mail would be taken, else 503 and a line for each check that says why not |
//! | `/healthz` | the same with every check, those that only advise too, as JSON |
//! | `/version` | `{"version":"…"}` |
//! | `/metrics` | OpenMetrics for those who ask for it, as Prometheus does, else the older text format |
//!
//! Invariants:
//! - Monitoring never stands in the way of mail: connections, header octets, and the time of a connection are bounded, and
//!   what may block runs where it keeps nobody waiting.
//! - No request changes anything, so only GET and HEAD are answered, no body is read, and nothing is logged of one.
//! - A connection carries one request. Scrapes are rare; idle connections would only use up their cap.
//! - It answers for as long as anything is served: `/readyz` says 503 while the server ends.
//!
//! Nothing shown names an address, a login or a message.

use super::gauges::Gauges;
use super::health::readiness;
use super::ops::{Context, blocking};
use super::request::{OpError, Readiness};
use crate::net::admission::{Admission, AdmissionPolicy, Refusal};
use crate::net::drain::Drain;
use crate::net::listen::{self, Arrival, Listener, Service};
use crate::observe::metrics::{self, Form};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Connections open at once.
const CONNECTIONS_MAX: usize = 32;
/// Most octets of a request line and its header.
const HEADER_OCTETS_MAX: usize = 16 * 1024;
/// How long a client may take to send them.
const HEADER_WAIT: Duration = Duration::from_secs(5);
/// How long a connection may take altogether.
const CONNECTION_WAIT: Duration = Duration::from_secs(30);
/// How long connections may go on once the server ends.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// What one connection too many hears.
const OVER_CAP: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Answers requests on these listeners until the drain starts.
pub async fn serve(listeners: Vec<Listener>, context: Context, drain: Drain) {
    let server = Arc::new(Server { router: router(context) });
    let admission = Admission::new(AdmissionPolicy::in_all(CONNECTIONS_MAX));
    listen::serve(listeners, server, admission, drain, || DRAIN_WAIT).await;
}

struct Server {
    router: Router,
}

impl Service for Server {
    async fn connection(self: Arc<Self>, stream: TcpStream, _arrival: Arrival) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_WAIT)
            .max_buf_size(HEADER_OCTETS_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router.clone()));
        // How it ended is the client's affair.
        match tokio::time::timeout(CONNECTION_WAIT, connection).await {
            Ok(Ok(()) | Err(_)) | Err(_) => {}
        }
    }

    fn over_cap(&self, _peer: SocketAddr, _refusal: Refusal) -> &[u8] {
        OVER_CAP
    }

    fn accept_failed(&self, error: &io::Error, failed: u64) {
        tracing::error!(event = "http.accept_failed", %error, failed);
    }
}

/// What the pages are made from.
struct Pages {
    context: Context,
    gauges: Gauges,
}

fn router(context: Context) -> Router {
    let pages = Arc::new(Pages { context, gauges: Gauges::default() });
    Router::new()
        .route("/livez", get(async || page(StatusCode::OK, TEXT, "ok\n".to_owned())))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .fallback(nowhere)
        .with_state(pages)
}

fn page(status: StatusCode, content_type: &'static str, body: String) -> Response {
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], body).into_response()
}

/// For a failure of ours while making a page.
fn broken(why: &str) -> Response {
    page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{why}\n"))
}

async fn ask(pages: &Pages) -> Result<(StatusCode, Readiness), OpError> {
    let readiness = blocking(&pages.context, readiness).await?;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, readiness))
}

async fn readyz(State(pages): State<Arc<Pages>>) -> Response {
    match ask(&pages).await {
        Ok((status, readiness)) => page(status, TEXT, readiness.to_text()),
        Err(error) => broken(error.why()),
    }
}

async fn healthz(State(pages): State<Arc<Pages>>) -> Response {
    match ask(&pages).await {
        Ok((status, readiness)) => match serde_json::to_string(&readiness) {
            Ok(text) => page(status, JSON, text + "\n"),
            Err(_) => broken("the checks cannot be written"),
        },
        Err(error) => broken(error.why()),
    }
}

async fn version() -> Response {
    let version = serde_json::json!({ "version": env!("CARGO_PKG_VERSION") });
    page(StatusCode::OK, JSON, format!("{version}\n"))
}

async fn metrics(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let form = Form::wanted_by(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    let states = pages.gauges.read(&pages.context).await;
    match metrics::expose(&states, form) {
        Ok(text) => page(StatusCode::OK, form.content_type(), text),
        Err(_) => broken("the metrics cannot be written"),
    }
}

async fn nowhere() -> Response {
    let text = "There are /livez, /readyz, /healthz, /version and /metrics.\n";
    page(StatusCode::NOT_FOUND, TEXT, text.to_owned())
}
