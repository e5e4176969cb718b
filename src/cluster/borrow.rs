//! Has students of this node retrained on other nodes' devices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ekya_actors::{AskError, Node, Payload, Ref};
use ekya_models::Student;
use ekya_profiler::Progress;

use super::actor::ClusterActor;
use super::bundle::BUNDLE_MAX;
use super::lend::Terms;
use super::messages::{Lent, Train};
use super::peers::CLUSTER;
use crate::config::StudentConfig;
use crate::learn::{Brought, Elsewhere, Errand, LearnError};
use crate::planning::Place;
use crate::schedule::Load;

/// Reports that may be on their way.
const ROOM: u32 = 16;
/// How often it is looked whether the retraining is wanted still.
const LOOK: Duration = Duration::from_millis(500);
/// A lender that says nothing for so long is given up: it fetches, waits for its share, or is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// For so long what is to be fetched is kept.
const KEPT_FOR: Duration = Duration::from_secs(180);

/// What is needed to have a stream's student retrained elsewhere.
#[derive(Clone)]
pub(crate) struct Borrower {
    pub(super) node: Node,
    pub(super) stream: String,
    pub(super) student: StudentConfig,
    pub(super) load: Load,
}

impl Borrower {
    /// Retrains on this device of another node.
    pub(crate) fn elsewhere(&self, place: &Place) -> Elsewhere {
        let (borrower, place) = (self.clone(), place.clone());
        Elsewhere::Lent(Box::new(move |errand, cancelled, report| {
            let failed = |why: String| LearnError::Elsewhere(format!("{}: {why}", place.node));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.map_err(|error| failed(error.to_string()))?;
            let done = runtime.block_on(borrower.send(errand, &place, cancelled, report));
            let (bytes, gpu_seconds) = done.map_err(|end| match end {
                End::Cancelled => LearnError::Cancelled,
                End::Failed(why) => failed(why),
            })?;
            let student = borrower.load(&bytes)?;
            Ok(Brought {
                student,
                gpu_seconds,
            })
        }))
    }

    /// The retrained student, as handed over, and the device seconds that it took.
    async fn send(
        &self,
        errand: Errand,
        place: &Place,
        cancelled: &AtomicBool,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(bytes::Bytes, f64), End> {
        let Errand {
            weights,
            sample,
            config,
            options,
            seed,
        } = errand;
        let terms = Terms {
            student: self.student.clone(),
            config,
            options,
            seed,
        };
        let weights = self.node.keep(weights.into(), KEPT_FOR).map_err(End::of)?;
        let sample = self.node.keep(sample.into(), KEPT_FOR).map_err(End::of)?;
        let train = Train {
            stream: self.stream.clone(),
            device: place.device.clone(),
            terms: serde_json::to_string(&terms).map_err(End::of)?,
            weights: weights.clone(),
            sample: sample.clone(),
        };
        let trained = self.wait_for(train, place, cancelled, report).await;
        self.node.drop_payload(&weights);
        self.node.drop_payload(&sample);
        let (student, gpu_seconds) = trained?;
        let fetched = self.node.fetch(&student, BUNDLE_MAX, SILENCE).await;
        Ok((fetched.map_err(End::of)?, gpu_seconds))
    }

    async fn wait_for(
        &self,
        train: Train,
        place: &Place,
        cancelled: &AtomicBool,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(Payload, f64), End> {
        let found = self.node.find(CLUSTER, &place.node).await;
        let lender: Ref<ClusterActor> = found.map_err(End::of)?;
        let mut replies = lender.stream(train, ROOM).map_err(End::of)?;
        let mut heard = Instant::now();
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(End::Cancelled);
            }
            match replies.next(LOOK).await {
                Ok(Some(Lent::Progressed {
                    done,
                    steps,
                    gpu_seconds,
                })) => {
                    heard = Instant::now();
                    report(Progress {
                        done,
                        steps,
                        gpu_seconds,
                        accuracy: None,
                    });
                }
                Ok(Some(Lent::Done {
                    student,
                    gpu_seconds,
                })) => return Ok((student, gpu_seconds)),
                Ok(Some(Lent::Failed(why))) => return Err(End::Failed(why)),
                Ok(None) => return Err(End::Failed("it has ended without a word".to_owned())),
                Err(AskError::Deadline { .. }) if heard.elapsed() < SILENCE => {}
                Err(error) => return Err(End::of(error)),
            }
        }
    }

    fn load(&self, bytes: &[u8]) -> Result<Box<dyn Student>, LearnError> {
        let failed = |error: std::io::Error| LearnError::Elsewhere(error.to_string());
        let folder = tempfile::tempdir().map_err(failed)?;
        let file = folder.path().join("student");
        std::fs::write(&file, bytes).map_err(failed)?;
        Ok((self.load)(&file)?)
    }
}

/// Why nothing has come of it.
enum End {
    Cancelled,
    Failed(String),
}

impl End {
    fn of(error: impl std::error::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
