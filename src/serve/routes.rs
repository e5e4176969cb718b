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
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::get;
use axum::{Router, extract::Request, middleware::Next};
use futures_util::Stream;
use futures_util::stream::unfold;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::access::{Access, guard};
use super::live::{Live, WITHIN};
use super::metrics::Metrics;
use super::nodes::nodes;
use super::recent::{Recent, RecentView};
use super::view::{Snapshot, Viewer};
use super::{page, picture, windows};
use crate::schedule::{Past, Planned};

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
pub(super) fn refuse(status: StatusCode, what: &str) -> Response {
    (status, Json(serde_json::json!({ "error": what }))).into_response()
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

async fn unknown() -> Response {
    refuse(
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

async fn snapshot(State(shown): State<Shown>) -> Response {
    match shown.newest() {
        Some(snapshot) => Json(&*snapshot).into_response(),
        None => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the node has only just begun",
        ),
    }
}

#[derive(Serialize)]
struct History {
    #[serde(flatten)]
    recent: RecentView,
    windows: Vec<windows::Accuracies>,
}

async fn history(State(shown): State<Shown>) -> Response {
    match newest_windows(&shown).await {
        Ok(windows) => {
            let recent = shown.0.recent.lock().view();
            Json(History { recent, windows }).into_response()
        }
        Err(refused) => refused,
    }
}

async fn accuracies(State(shown): State<Shown>) -> Response {
    match newest_windows(&shown).await {
        Ok(windows) => Json(windows).into_response(),
        Err(refused) => refused,
    }
}

async fn newest_windows(shown: &Shown) -> Result<Vec<windows::Accuracies>, Response> {
    let past = Past {
        stream: None,
        windows: WINDOWS,
    };
    match shown.0.live.scheduler.ask(past, WITHIN).await {
        Ok(windows) => Ok(windows::accuracies(&windows)),
        Err(error) => Err(busy(&error)),
    }
}

async fn plan(State(shown): State<Shown>) -> Response {
    match shown.0.live.scheduler.ask(Planned, WITHIN).await {
        Ok(timeline) => {
            let faces = shown.0.live.streams.lock().clone();
            Json(windows::plan(&timeline, &faces)).into_response()
        }
        Err(error) => busy(&error),
    }
}

async fn site(State(shown): State<Shown>) -> Response {
    Json(nodes(&shown.0.live).await).into_response()
}

async fn stream(State(shown): State<Shown>, Path(name): Path<String>) -> Response {
    let snapshot = shown.newest();
    let mut streams = snapshot.iter().flat_map(|snapshot| &snapshot.streams);
    let Some(stream) = streams.find(|stream| stream.name == name) else {
        return no_stream();
    };
    match past(&shown, name).await {
        Ok(windows) => Json(serde_json::json!({
            "stream": stream,
            "windows": windows::in_full(windows),
        }))
        .into_response(),
        Err(refused) => refused,
    }
}

async fn explain(State(shown): State<Shown>, Path(name): Path<String>) -> Response {
    if shown.0.live.stream(&name).is_none() {
        return no_stream();
    }
    match past(&shown, name.clone()).await {
        Ok(windows) => Json(windows::explain(name, windows)).into_response(),
        Err(refused) => refused,
    }
}

async fn past(shown: &Shown, name: String) -> Result<crate::schedule::Windows, Response> {
    let past = Past {
        stream: Some(name),
        windows: WINDOWS_IN_FULL,
    };
    let asked = shown.0.live.scheduler.ask(past, WITHIN).await;
    asked.map_err(|error| busy(&error))
}

async fn picture_json(State(shown): State<Shown>, Path(name): Path<String>) -> Response {
    match pictured(&shown, &name) {
        Ok(face) => picture::json(&face).await,
        Err(refused) => refused,
    }
}

async fn picture_jpg(State(shown): State<Shown>, Path(name): Path<String>) -> Response {
    match pictured(&shown, &name) {
        Ok(face) => picture::jpeg(&face).await,
        Err(refused) => refused,
    }
}

fn pictured(shown: &Shown, name: &str) -> Result<super::Face, Response> {
    if !shown.0.pictures {
        let why = "pictures are switched off on this node: [serve] pictures = false";
        return Err(refuse(StatusCode::FORBIDDEN, why));
    }
    shown.0.live.stream(name).ok_or_else(no_stream)
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
async fn readyz(State(shown): State<Shown>) -> Response {
    let now = shown.0.live.start.elapsed().as_secs_f64();
    let fresh = |snapshot: &Snapshot| now - snapshot.run_time < STALE_AFTER;
    if shown.newest().is_some_and(|snapshot| fresh(&snapshot)) {
        "ready\n".into_response()
    } else {
        refuse(StatusCode::SERVICE_UNAVAILABLE, "the node does not answer")
    }
}

fn no_stream() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "this node runs no stream of that name; /api/v1/snapshot lists them",
    )
}

fn busy(error: &dyn std::error::Error) -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
}
