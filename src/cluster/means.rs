//! How a cluster actor has things done that take time: on the disk, by the thread that runs the node, and
//! by other nodes. All of it is awaited beside its handlers, with a deadline.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use ekya_actors::{Compute, Node, Payload, Ref};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::actor::ClusterActor;
use super::assignments::Assignment;
use super::bundle::{self, BUNDLE_MAX};
use super::messages::{Offer, Purpose, Refusal};
use super::peers::CLUSTER;
use crate::node::{Command, Done};

/// Time for a stream to start on a node: models are loaded.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Time for the state folder to follow what a stream has learnt, which may be in the middle of a
/// retraining; then what it has from before is good enough.
const KEEP_WITHIN: Duration = Duration::from_secs(2);
/// Time for a bundle to travel.
const TRAVEL_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of frames of a bundle that is to be run, and of one that is kept for when it has to be.
const FRAMES_TO_RUN: u64 = 256 << 20;
const FRAMES_TO_KEEP: u64 = 16 << 20;

/// What is needed for that.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) node: Node,
    pub(super) state: PathBuf,
    /// For the disk.
    pub(super) files: Arc<Compute>,
    /// To the thread that runs the node.
    pub(super) commands: Option<Sender<Command>>,
}

impl Means {
    /// Does something on the disk.
    ///
    /// # Errors
    /// Why it was not done.
    pub(super) async fn on_disk<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<R> + Send + 'static,
    ) -> Result<R, String> {
        let (done, result) = oneshot::channel();
        let submitted = self.files.run(work, move |result| drop(done.send(result)));
        submitted.map_err(|error| error.to_string())?;
        let result = result.await.map_err(|_| "the node stops".to_owned())?;
        let result = result.map_err(|error| error.to_string())?;
        result.map_err(|error| error.to_string())
    }

    /// Has the thread that runs the node do something.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn command<R: Send + 'static>(
        &self,
        command: impl FnOnce(Done<R>) -> Command,
        within: Duration,
    ) -> Result<R, String> {
        let commands = self.commands.as_ref().ok_or("the node has not begun yet")?;
        let (done, result) = oneshot::channel();
        let done: Done<R> = Box::new(move |answer| drop(done.send(answer)));
        let handed = commands.try_send(command(done));
        handed.map_err(|_| "the node is overloaded, or stops")?;
        let answer = timeout(within, result).await;
        let answer = answer.map_err(|_| format!("not within {within:?}"))?;
        answer.map_err(|_| "it could not be done".to_owned())
    }

    /// Runs a stream from what the state folder keeps of it.
    ///
    /// # Errors
    /// Why it does not run.
    pub(super) async fn run(&self, assignment: &Assignment) -> Result<(), String> {
        let (config, age) = (Box::new(assignment.config.clone()), assignment.age());
        let added = self.command(|done| Command::Add(config, age, done), START_WITHIN);
        added.await?.map_err(|error| chain(&error))
    }

    /// Ends a stream, if it runs.
    ///
    /// # Errors
    /// Why that is not known.
    pub(super) async fn end(&self, stream: String) -> Result<(), String> {
        let removed = self.command(|done| Command::Remove(stream, done), START_WITHIN);
        removed.await.map(drop)
    }

    /// Has the state folder follow what a stream has learnt, as far as that is soon done, and packs what
    /// it keeps.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) async fn pack(&self, stream: &str, purpose: Purpose) -> Result<Vec<u8>, String> {
        let name = stream.to_owned();
        if purpose != Purpose::Keep {
            let kept = self
                .command(|done| Command::Keep(name, done), KEEP_WITHIN)
                .await;
            if let Err(why) = kept {
                tracing::debug!(stream, why, "what has been kept before travels");
            }
        }
        let frames = match purpose {
            Purpose::Run => FRAMES_TO_RUN,
            Purpose::Keep => FRAMES_TO_KEEP,
            // The student alone is compared.
            Purpose::Merge => 0,
        };
        let (state, stream) = (self.state.clone(), stream.to_owned());
        self.on_disk(move || bundle::pack(&state, &stream, frames))
            .await
    }

    /// Offers another node what there is of a stream.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(super) async fn offer(
        &self,
        to: &str,
        bundle: Vec<u8>,
        offer: impl FnOnce(Payload) -> Offer,
    ) -> Result<(), Refusal> {
        let kept = self.node.keep(bundle.into(), TRAVEL_WITHIN + START_WITHIN);
        let payload = kept.map_err(|error| error.to_string())?;
        let asked = async {
            let found = self.node.find(CLUSTER, to).await;
            let actor: Ref<ClusterActor> = found.map_err(|error| error.to_string())?;
            let answer = actor.ask(offer(payload.clone()), TRAVEL_WITHIN + START_WITHIN);
            answer
                .await
                .map_err(|error| Refusal::Failed(error.to_string()))?
        };
        let answer = asked.await;
        self.node.drop_payload(&payload);
        answer
    }

    /// Fetches what was offered.
    ///
    /// # Errors
    /// Why it did not come.
    pub(super) async fn fetch(&self, payload: &Payload) -> Result<bytes::Bytes, String> {
        let fetched = self.node.fetch(payload, BUNDLE_MAX, TRAVEL_WITHIN).await;
        fetched.map_err(|error| error.to_string())
    }
}

/// An error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
