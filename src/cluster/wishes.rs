//! What people want done with the streams of a node.

use ekya_actors::{Ctx, Receive, Reply};

use super::actor::ClusterActor;
use super::assignments::Assignment;
use super::custody::{Change, Waiting};
use super::homes::admits;
use super::messages::{Manage, Purpose, Refusal};
use super::tries::Activity;
use crate::clock::unix_seconds;
use crate::config::StreamConfig;

/// The word of a person.
impl Receive<Manage> for ClusterActor {
    fn receive(&mut self, manage: Manage, reply: Reply<Manage>, ctx: &mut Ctx<Self>) {
        let waits = Waiting::Person(reply);
        match manage {
            Manage::Add(config) => self.add(&config, waits, ctx),
            Manage::Remove(stream) => self.end_for_good(&stream, waits, ctx),
            Manage::Move { stream, to } => self.move_to(&stream, to, Some(waits), ctx),
        }
    }
}

impl ClusterActor {
    fn add(&mut self, config: &str, waits: Waiting, ctx: &mut Ctx<Self>) {
        let config = match serde_json::from_str::<StreamConfig>(config) {
            Ok(config) => config,
            Err(error) => {
                let why = format!("no configuration of a stream: {error}");
                return waits.hear(Err(Refusal::Failed(why)));
            }
        };
        let stream = config.name.clone();
        let known = self.custody.assignments.get(&stream);
        if known.is_some_and(|known| known.runs) {
            let why = format!("'{stream}' runs here already");
            return waits.hear(Err(Refusal::Failed(why)));
        }
        let assignment = Assignment {
            epoch: known.map_or(0, |known| known.epoch + 1),
            home: self.me().to_owned(),
            runs: true,
            began: unix_seconds(),
            config,
        };
        let means = self.means();
        self.begin(
            &stream,
            Activity::Move,
            Some(waits),
            ctx,
            move |_| async move {
                means.run(&assignment).await?;
                Ok(Change::Runs(assignment))
            },
        );
    }

    /// The assignment of a stream that runs here, one move later.
    fn running(&self, stream: &str) -> Result<Assignment, Refusal> {
        let known = self
            .custody
            .assignments
            .get(stream)
            .filter(|known| known.runs);
        let known = known.ok_or_else(|| format!("'{stream}' does not run here"))?;
        if self.custody.busy.contains(stream) {
            return Err(Refusal::Busy);
        }
        let epoch = known.epoch + 1;
        Ok(Assignment {
            epoch,
            ..known.clone()
        })
    }

    fn end_for_good(&mut self, stream: &str, waits: Waiting, ctx: &mut Ctx<Self>) {
        let mut assignment = match self.running(stream) {
            Ok(assignment) => assignment,
            Err(why) => return waits.hear(Err(why)),
        };
        let means = self.means();
        self.begin(
            stream,
            Activity::Move,
            Some(waits),
            ctx,
            move |stream| async move {
                means.end(stream).await?;
                (assignment.runs, assignment.home) = (false, String::new());
                Ok(Change::Gone(assignment))
            },
        );
    }

    /// Gives a stream to another node, whose it is from then on, on the word of a person or of whoever
    /// leads.
    pub(super) fn move_to(
        &mut self,
        stream: &str,
        to: String,
        waits: Option<Waiting>,
        ctx: &mut Ctx<Self>,
    ) {
        let hear = |waits: Option<Waiting>, answer| {
            if let Some(waits) = waits {
                waits.hear(answer);
            }
        };
        let mut assignment = match self.running(stream) {
            Ok(assignment) => assignment,
            Err(why) => return hear(waits, Err(why)),
        };
        if to == self.me() {
            return hear(waits, Ok(()));
        }
        if !admits(&assignment.config.may_run_on(self.me()), &to) {
            let why =
                format!("'{stream}' may not run on {to}: `stay` or `nodes` of its configuration");
            return hear(waits, Err(Refusal::Failed(why)));
        }
        assignment.home.clone_from(&to);
        self.give(stream, to, assignment, Purpose::Run, waits, ctx);
    }
}
