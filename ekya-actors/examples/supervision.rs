//! A camera that fails now and then, the recorder that cannot do without it, and somebody who hears of
//! the end of both.
//!
//! `cargo run -p ekya-actors --example supervision`. The panics on stderr are the camera's.

use std::error::Error;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ekya_actors::{Actor, Ctx, Exit, Handler, Message, Ref, Restarts, System};

/// Gives frames, until it does not.
#[derive(Default)]
struct Camera {
    frames: u32,
}

impl Actor for Camera {}

struct Frame;

impl Message for Frame {
    type Reply = u32;
}

impl Handler<Frame> for Camera {
    fn handle(&mut self, _: Frame, _: &mut Ctx<Self>) -> u32 {
        self.frames += 1;
        assert!(self.frames < 3, "the cable is loose");
        self.frames
    }
}

/// Ends with its camera: a recorder without one is of no use.
struct Recorder {
    camera: Ref<Camera>,
}

impl Actor for Recorder {
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        // No more than 1024 futures run for an actor; this is the first.
        drop(ctx.link(&self.camera));
    }
}

/// Hears of the recorder's end, and tells the main thread.
struct Operator {
    recorder: Ref<Recorder>,
    heard: Sender<Exit>,
}

impl Actor for Operator {
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        drop(ctx.watch(&self.recorder));
    }
}

impl Handler<Exit> for Operator {
    fn handle(&mut self, exit: Exit, _: &mut Ctx<Self>) {
        // The main thread waits for it.
        drop(self.heard.send(exit));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let system = System::start()?;
    // One restart, at once; the second panic within a minute is the end.
    let restarts = Restarts::new(1, Duration::from_secs(60));
    let camera = system.spawn_supervised("camera", Camera::default, 16, restarts)?;
    let recorder = Recorder {
        camera: camera.clone(),
    };
    let recorder = system.spawn("recorder", recorder, 16)?;
    let (heard, exits) = channel();
    system.spawn("operator", Operator { recorder, heard }, 16)?;

    for _ in 0..6 {
        match camera.ask_blocking(Frame, Duration::from_secs(1)) {
            Ok(frame) => println!("frame {frame} of generation {}", camera.generation()),
            Err(error) => println!("{error}"),
        }
    }
    let exit = exits.recv()?;
    println!("{} has ended: {:?}", exit.actor, exit.reason);
    system.shutdown(Duration::from_secs(1))?;
    Ok(())
}
