//! Streams that come and go while a node runs.

use std::time::Duration;

use super::build::{Node, finish_loading, tell};
use super::run::{NodeError, stream_record};
use crate::config::StreamConfig;
use crate::learn::KeepNow;
use crate::schedule::Event;

/// What a running node is asked to do, on the thread that runs it.
pub(crate) enum Command {
    /// Take a stream on, from what the state folder keeps of it, that has run for so long before.
    Add(Box<StreamConfig>, Duration, Done<Result<(), NodeError>>),
    /// Let a stream go; false when there is none of that name.
    Remove(String, Done<bool>),
    /// Have the state folder follow what a stream has learnt, and say so then; dropped without a word
    /// where that cannot be had.
    Keep(String, Done<()>),
}

/// Gets the answer.
pub(crate) type Done<R> = Box<dyn FnOnce(R) + Send>;

impl Node {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Add(config, age, done) => done(self.add_stream(&config, age)),
            Command::Remove(name, done) => done(self.remove_stream(&name)),
            Command::Keep(name, done) => return self.keep_stream(&name, done),
        }
        self.show_streams();
    }

    fn is_here(&self, name: &str) -> Option<usize> {
        let mut streams = self.streams.iter();
        streams.position(|stream| !stream.gone && stream.name == name)
    }

    /// Takes a stream on; one that is here already stays as it is.
    pub(super) fn add_stream(
        &mut self,
        config: &StreamConfig,
        age: Duration,
    ) -> Result<(), NodeError> {
        if self.is_here(&config.name).is_some() {
            return Ok(());
        }
        let slot = (self.streams.iter()).position(|stream| stream.name == config.name);
        let index = slot.unwrap_or(self.streams.len());
        let times = slot.map_or(0, |slot| self.streams[slot].times + 1);
        let mut built = self.build_stream(index, config, times)?;
        finish_loading()?;
        built.age = age;
        let Some((start, scheduler)) = &self.running else {
            return Ok(());
        };
        if let Some(setup) = built.setup.take() {
            let setup = Box::new(setup);
            tell(
                scheduler,
                Event::Joined {
                    stream: index,
                    setup,
                },
            )?;
        }
        built.start_source(index, *start, scheduler)?;
        tracing::info!(stream = config.name, "the stream has come");
        if index == self.streams.len() {
            self.streams.push(built);
        } else {
            let before = std::mem::replace(&mut self.streams[index], built);
            // What serves it must go: its jobs on the device do so with it.
            self.departed.push(stream_record(&before, None, &mut []));
        }
        Ok(())
    }

    /// Lets a stream go, when the frame that is being answered is.
    pub(super) fn remove_stream(&mut self, name: &str) -> bool {
        let (Some(index), Some((_, scheduler))) = (self.is_here(name), &self.running) else {
            return false;
        };
        let stream = &mut self.streams[index];
        stream.gone = true;
        stream.end_source();
        if let Err(error) = tell(scheduler, Event::Left { stream: index }) {
            tracing::error!(%error, stream = name, "the scheduler goes on with a stream that has gone");
        }
        let job = stream.intake.job().id();
        self.devices[stream.device].inference.forget(job);
        for actor in &stream.actors {
            self.system.stop(actor);
        }
        tracing::info!(stream = name, "the stream has gone");
        true
    }

    fn keep_stream(&self, name: &str, done: Done<()>) {
        let Some(index) = self.is_here(name) else {
            return;
        };
        // Where the trainer has ended, nothing more comes to be kept.
        drop(self.streams[index].trainer.tell(KeepNow(done)));
    }
}
