//! What is answered at which path, and the looking that all answers come from.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, extract::Request, middleware::Next};
use ekya_actors::AskError;
use futures_util::Stream;
use futures_util::stream::unfold;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::access::{Access, guard};
use super::live::{Face, Live, WITHIN};
use super::metrics::Metrics;
use super::nodes::nodes;
use super::recent::{Recent, RecentView};
use super::view::{Snapshot, StreamView, Viewer};
use super::{page, picture, windows};
use crate::schedule::{Past, Planned, Windows};

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Windows that the charts begin with.
const WINDOWS: usize = 60;
/// Windows of one stream that are shown in full.
const WINDOWS_IN_FULL: usize = 12;
/// A node that has not been looked at for so long is not well.
const STALE_AFTER: f64 = 10.0;

/// What requests are answered from.
#[derive(Clone)]
pub(super) struct Shown(Arc<Inner>);

struct Inner {
    live: Arc<Live>,
    pictures: bool,
    recent: Mutex<Recent>,
    metrics: Metrics,
    /// The newest snapshot, and its JSON, which is written once for all who watch.
    newest: watch::Receiver<Option<(Arc<Snapshot>, Arc<str>)>>,
}

impl Shown {
    /// What requests are answered from, and the looking, which never ends.
    pub(super) fn begin(live: Arc<Live>, pictures: bool) -> (Self, impl Future<Output = ()>) {
        let (seen, newest) = watch::channel(None);
        let shown = Self(Arc::new(Inner {
            live,
            pictures,
            recent: Mutex::default(),
            metrics: Metrics::new(),
            newest,
        }));
        let looking = shown.clone().look_on(seen);
        (shown, looking)
    }

    async fn look_on(self, seen: watch::Sender<Option<(Arc<Snapshot>, Arc<str>)>>) {
        let mut viewer = Viewer::new(self.0.pictures);
        let mut seconds = interval(LOOK_EVERY);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            seconds.tick().await;
            let look = self.0.live.look().await;
            let (snapshot, timings) = viewer.view(&self.0.live, &look);
            self.0.metrics.answered(&timings);
            self.0.recent.lock().add(&snapshot);
            match serde_json::to_string(&snapshot) {
                Ok(json) => drop(seen.send(Some((Arc::new(snapshot), json.into())))),
                Err(error) => tracing::error!(%error, "a snapshot is no JSON"),
            }
        }
    }

    fn newest(&self) -> Option<Arc<Snapshot>> {
        let newest = self.0.newest.borrow();
        newest.as_ref().map(|(snapshot, _)| Arc::clone(snapshot))
    }

    fn face(&self, name: &str) -> Result<Face, Refusal> {
        self.0.live.stream(name).ok_or_else(Refusal::no_stream)
    }

    /// A stream whose frames may be seen.
    fn pictured(&self, name: &str) -> Result<Face, Refusal> {
        if self.0.pictures {
            return self.face(name);
        }
        let what = "pictures are switched off on this node: [serve] pictures = false";
        Err(Refusal::new(StatusCode::FORBIDDEN, what))
    }
}

/// All paths.
pub(super) fn router(shown: Shown, access: Access) -> Router {
    let files = page::FILES.into_iter();
    let page = files.fold(Router::new(), |page, (path, kind, text)| {
        page.route(path, get(async move || page::file(kind, text)))
    });
    page.route("/events", get(events))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/v1/snapshot", get(snapshot))
        .route("/api/v1/history", get(history))
        .route("/api/v1/windows", get(accuracies))
        .route("/api/v1/plan", get(plan))
        .route("/api/v1/nodes", get(site))
        .route("/api/v1/streams/{name}", get(stream))
        .route("/api/v1/streams/{name}/picture.json", get(picture_json))
        .route("/api/v1/streams/{name}/picture.jpg", get(picture_jpg))
        .route("/api/v1/explain/{name}", get(explain))
        .fallback(unknown)
        .layer(from_fn(never_stored))
        .layer(from_fn_with_state(access, guard))
        .with_state(shown)
}

/// A refusal that says what to do.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl Refusal {
    pub(super) fn new(status: StatusCode, what: impl Into<String>) -> Self {
        Self(status, what.into())
    }

    fn no_stream() -> Self {
        let what = "this node runs no stream of that name; /api/v1/snapshot lists them";
        Self::new(StatusCode::NOT_FOUND, what)
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, what) = self;
        (status, Json(serde_json::json!({ "error": what }))).into_response()
    }
}

/// What a node says now is not true later.
async fn never_stored(request: Request, next: Next) -> Response {
    use axum::http::header::{CACHE_CONTROL, Entry};
    let mut response = next.run(request).await;
    if let Entry::Vacant(entry) = response.headers_mut().entry(CACHE_CONTROL) {
        entry.insert(HeaderValue::from_static("no-store"));
    }
    response
}

async fn unknown() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "there is no such page; / is the dashboard, /api/v1/snapshot the node as JSON, /metrics its metrics",
    )
}

/// One snapshot a second, to whoever keeps up; one that does not misses some.
async fn events(State(shown): State<Shown>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut newest = shown.0.newest.clone();
    newest.mark_changed();
    let ticks = unfold(newest, async |mut newest| {
        loop {
            newest.changed().await.ok()?;
            let json = newest
                .borrow_and_update()
                .as_ref()
                .map(|(_, json)| Arc::clone(json));
            if let Some(json) = json {
                let event = Event::default().event("tick").data(json);
                return Some((Ok(event), newest));
            }
        }
    });
    Sse::new(ticks).keep_alive(KeepAlive::default())
}

async fn snapshot(State(shown): State<Shown>) -> Result<Response, Refusal> {
    let only_begun = || {
        let what = "the node has only just begun; ask again in a second";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what)
    };
    let snapshot = shown.newest().ok_or_else(only_begun)?;
    Ok(Json(&*snapshot).into_response())
}

#[derive(Serialize)]
struct History {
    #[serde(flatten)]
    recent: RecentView,
    windows: Vec<windows::Accuracies>,
}

async fn history(State(shown): State<Shown>) -> Result<Response, Refusal> {
    let windows = newest_windows(&shown).await?;
    let recent = shown.0.recent.lock().view();
    Ok(Json(History { recent, windows }).into_response())
}

async fn accuracies(State(shown): State<Shown>) -> Result<Response, Refusal> {
    Ok(Json(newest_windows(&shown).await?).into_response())
}

async fn newest_windows(shown: &Shown) -> Result<Vec<windows::Accuracies>, Refusal> {
    let past = Past {
        stream: None,
        windows: WINDOWS,
    };
    let windows = shown.0.live.scheduler.ask(past, WITHIN).await?;
    Ok(windows::accuracies(&windows))
}

async fn plan(State(shown): State<Shown>) -> Result<Response, Refusal> {
    let timeline = shown.0.live.scheduler.ask(Planned, WITHIN).await?;
    let faces = shown.0.live.streams.lock().clone();
    Ok(Json(windows::plan(&timeline, &faces)).into_response())
}

async fn site(State(shown): State<Shown>) -> Response {
    Json(nodes(&shown.0.live).await).into_response()
}

#[derive(Serialize)]
struct InFull<'a> {
    stream: &'a StreamView,
    windows: Vec<windows::WindowView>,
}

async fn stream(State(shown): State<Shown>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let snapshot = shown.newest();
    let mut streams = snapshot.iter().flat_map(|snapshot| &snapshot.streams);
    let stream = streams.find(|stream| stream.name == name);
    let stream = stream.ok_or_else(Refusal::no_stream)?;
    let windows = windows::in_full(past(&shown, name).await?);
    Ok(Json(InFull { stream, windows }).into_response())
}

async fn explain(
    State(shown): State<Shown>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    shown.face(&name)?;
    let windows = past(&shown, name.clone()).await?;
    Ok(Json(windows::explain(name, windows)).into_response())
}

async fn past(shown: &Shown, name: String) -> Result<Windows, Refusal> {
    let past = Past {
        stream: Some(name),
        windows: WINDOWS_IN_FULL,
    };
    Ok(shown.0.live.scheduler.ask(past, WITHIN).await?)
}

async fn picture_json(
    State(shown): State<Shown>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    picture::json(&shown.pictured(&name)?).await
}

async fn picture_jpg(
    State(shown): State<Shown>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    picture::jpeg(&shown.pictured(&name)?).await
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let text = shown
        .0
        .metrics
        .text(&shown.0.live, shown.newest().as_deref())
        .await;
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

/// Whether the process is there to answer.
async fn healthz() -> &'static str {
    "alive\n"
}

/// Whether the node does its work: what it does was seen a moment ago.
async fn readyz(State(shown): State<Shown>) -> Result<&'static str, Refusal> {
    let now = shown.0.live.start.elapsed().as_secs_f64();
    let fresh = |snapshot: &Snapshot| now - snapshot.run_time < STALE_AFTER;
    if shown.newest().is_some_and(|snapshot| fresh(&snapshot)) {
        return Ok("ready
");
    }
    let what = "the node does not answer: its log says why";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what))
}
