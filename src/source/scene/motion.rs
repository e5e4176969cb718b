//! Who is where: objects enter, cross, follow, stop and leave.
//!
//! Places are in pixels of the unshaken picture.

use ekya_models::BBox;
use rand::Rng;

use super::SceneConfig;
use super::backdrop::{Path, Post, Stage, UNITS, Way};
use super::class::Class;
use super::drift::Condition;
use super::looks::{Costume, Staging};
use super::raster::Sprite;

/// Most objects at any time.
pub(super) const MAX_OBJECTS: usize = 5;
/// An object belongs to the truth when at least this part of its box can be seen.
pub(super) const MIN_VISIBLE: f32 = 0.4;
/// An object holds the scene when at least this part of its box is inside the picture however the
/// camera shakes, and not behind a post. More than [`MIN_VISIBLE`], so that what holds the scene and
/// is in front of everything else is always in the truth.
const MIN_HELD: f32 = 0.55;
/// Longest step of the simulation, in seconds.
const MAX_STEP: f32 = 0.05;
/// An object is called in when nobody will be in view after this time, in seconds.
const FORESIGHT: f32 = 0.55;
/// Arrivals wanted for each arrival that a lane has room for, measured.
const CROWDING: f32 = 1.5;
/// Time that the shutter is open, in seconds.
const SHUTTER: f32 = 0.025;
/// Share of objects that stop on their way.
const STOPPING: f32 = 0.14;

/// A stop on the way.
#[derive(Debug, Clone, Copy)]
struct Stop {
    x: f32,
    seconds: f32,
}

/// An object in the scene.
#[derive(Debug, Clone)]
pub(super) struct Mover {
    pub(super) class: Class,
    pub(super) costume: Costume,
    /// Counts objects of the scene.
    pub(super) id: u64,
    path: usize,
    /// -1 to the left, 1 to the right.
    way: f32,
    pub(super) x: f32,
    /// Where its feet or wheels are, in the middle of the view.
    foot: f32,
    /// By how much `foot` grows a pixel to the right, and from where.
    slope: f32,
    middle: f32,
    /// Pixels a second.
    speed: f32,
    stop: Option<Stop>,
    /// Whether it moved in the last step.
    moving: bool,
    /// Strides made, in phases of the gait.
    gait: f32,
}

impl Mover {
    /// Where its feet or wheels are.
    pub(super) fn ground(&self) -> f32 {
        self.foot + (self.x - self.middle) * self.slope
    }

    pub(super) fn faces_left(&self) -> bool {
        self.way < 0.0
    }

    /// Its box, whether or not it is inside the picture.
    pub(super) fn bbox(&self) -> BBox {
        let (extent, ground) = (self.costume.extent, self.ground());
        BBox {
            x1: self.x + extent.left,
            y1: ground + extent.top,
            x2: self.x + extent.right,
            y2: ground + extent.bottom,
        }
    }

    /// The sprite of the moment.
    pub(super) fn sprite(&self) -> &Sprite {
        let phases = &self.costume.moving;
        if !self.moving {
            return &self.costume.still;
        }
        phases
            .get(self.gait as usize % phases.len().max(1))
            .unwrap_or(&self.costume.still)
    }

    /// Its length in the direction of travel.
    fn length(&self) -> f32 {
        self.costume.extent.right - self.costume.extent.left
    }

    /// Moves for `dt` seconds, but at most `room` pixels.
    fn advance(&mut self, dt: f32, room: f32) {
        let mut way = (self.speed * dt).min(room.max(0.0));
        if let Some(stop) = &mut self.stop {
            let ahead = (stop.x - self.x) * self.way;
            if ahead <= way && stop.seconds > 0.0 {
                way = ahead.max(0.0);
                stop.seconds -= dt;
            }
        }
        self.x += way * self.way;
        self.moving = way > 0.2 * self.speed * dt;
        self.gait += way / 2.5;
    }
}

/// Everything that moves.
#[derive(Debug, Clone)]
pub(super) struct World {
    width: f32,
    height: f32,
    /// Pixels a unit.
    unit: f32,
    max_shake: f32,
    busyness: f32,
    paths: &'static [Path],
    posts: Vec<BBox>,
    /// Far ones first.
    movers: Vec<Mover>,
    /// Drawn by lot, but no path was free for it yet.
    waiting: Option<Class>,
    entered: u64,
    /// Whether the last one well in view waits for another to come, at an edge or before a post.
    held_up: bool,
}

impl World {
    /// A scene in full swing, with at least one object in view.
    pub(super) fn new(
        config: &SceneConfig,
        stage: &Stage,
        max_shake: f32,
        condition: &Condition,
        rng: &mut impl Rng,
    ) -> Self {
        let mut world = Self {
            width: config.width as f32,
            height: config.height as f32,
            unit: config.height as f32 / UNITS,
            max_shake,
            busyness: config.busyness as f32,
            paths: stage.paths,
            posts: stage.posts.iter().map(post_box).collect(),
            movers: vec![],
            waiting: None,
            entered: 0,
            held_up: false,
        };
        world.populate(condition, rng);
        world
    }

    /// The first objects: one surely in view, the others anywhere.
    fn populate(&mut self, condition: &Condition, rng: &mut impl Rng) {
        // Posts are thinner than anything that moves: some place is always free of them.
        while self.holders().next().is_none() {
            self.movers.clear();
            let class = draw(&condition.mix, rng);
            if let Some(mut mover) = self.newcomer(class, condition, rng) {
                mover.x = self.width * (0.25 + 0.5 * rng.random::<f32>());
                mover.stop = None;
                self.movers.push(mover);
            }
        }
        let extra = (self.busyness - 0.5 + rng.random::<f32>()) as usize;
        for _ in 1..extra.min(MAX_OBJECTS) {
            let class = draw(&condition.mix, rng);
            if let Some(mut mover) = self.newcomer(class, condition, rng) {
                mover.x = self.width * rng.random::<f32>();
                mover.stop = None;
                if self.room_around(&mover) {
                    self.movers.push(mover);
                }
            }
        }
        self.keep_one_in_sight();
        self.sort();
    }

    /// Lets `seconds` pass.
    pub(super) fn advance(&mut self, seconds: f32, condition: &Condition, rng: &mut impl Rng) {
        let steps = (seconds / MAX_STEP - 1e-3).ceil().max(1.0);
        for _ in 0..steps as usize {
            self.step(seconds / steps, condition, rng);
        }
    }

    fn step(&mut self, dt: f32, condition: &Condition, rng: &mut impl Rng) {
        self.move_all(dt);
        let (width, reach) = (self.width, self.max_shake + 1.0);
        self.movers.retain(|mover| {
            let bbox = mover.bbox();
            if mover.way > 0.0 {
                bbox.x1 < width + reach
            } else {
                bbox.x2 > -reach
            }
        });
        self.call_in(dt, condition, rng);
        self.sort();
        self.keep_one_in_sight();
    }

    /// Moves everyone; who holds the scene waits while nobody else would.
    fn move_all(&mut self, dt: f32) {
        let holders: Vec<(u64, f32)> = self.holders().map(|mover| (mover.id, mover.x)).collect();
        for i in 0..self.movers.len() {
            let room = self.room_ahead(&self.movers[i]);
            self.movers[i].advance(dt, room);
        }
        let nobody_left = self.holders().next().is_none();
        self.held_up = nobody_left;
        if nobody_left {
            for mover in &mut self.movers {
                if let Some((_, x)) = holders.iter().find(|(id, _)| *id == mover.id) {
                    mover.x = *x;
                    mover.moving = false;
                }
            }
        }
    }

    /// Those that hold the scene: well inside the picture, not behind a post.
    fn holders(&self) -> impl Iterator<Item = &Mover> {
        self.movers
            .iter()
            .filter(|mover| self.holds(&mover.bbox(), mover.ground()))
    }

    fn holds(&self, bbox: &BBox, ground: f32) -> bool {
        let posts = self.posts.iter().filter(|post| post.y2 > ground);
        visible_part(bbox, &self.safe(), posts) >= MIN_HELD
    }

    /// The part of the picture that is in view however the camera shakes.
    fn safe(&self) -> BBox {
        BBox {
            x1: self.max_shake,
            y1: self.max_shake,
            x2: self.width - self.max_shake,
            y2: self.height - self.max_shake,
        }
    }

    /// Part of mover `i` that can be seen in `view`.
    pub(super) fn visible(&self, i: usize, view: &BBox) -> f32 {
        let bbox = self.movers[i].bbox();
        let ground = self.movers[i].ground();
        let nearer: Vec<BBox> = self.movers[i + 1..].iter().map(Mover::bbox).collect();
        let posts = self.posts.iter().filter(|post| post.y2 > ground);
        visible_part(&bbox, view, posts.chain(&nearer))
    }

    /// Everything in the scene, far ones first.
    pub(super) fn movers(&self) -> &[Mover] {
        &self.movers
    }

    /// The same world without mover `i`.
    #[cfg(test)]
    pub(super) fn without(&self, i: usize) -> Self {
        let mut world = self.clone();
        world.movers.remove(i);
        world
    }

    fn sort(&mut self) {
        self.movers
            .sort_by(|a, b| a.ground().total_cmp(&b.ground()).then(a.id.cmp(&b.id)));
    }

    /// Drops who, coming or going at the edge, would hide the last one in sight.
    fn keep_one_in_sight(&mut self) {
        let safe = self.safe();
        if (0..self.movers.len()).any(|i| self.visible(i, &safe) >= MIN_VISIBLE) {
            return;
        }
        let last = self
            .movers
            .iter()
            .rposition(|mover| self.holds(&mover.bbox(), mover.ground()));
        if let Some(last) = last {
            self.movers.truncate(last + 1);
        }
    }

    /// Lets new objects enter, at random or because nobody would be left.
    fn call_in(&mut self, dt: f32, condition: &Condition, rng: &mut impl Rng) {
        if self
            .waiting
            .is_some_and(|class| condition.mix[class.index()] <= 0.0)
        {
            self.waiting = None;
        }
        // One is always there; chance brings the others.
        let chance = CROWDING * (self.busyness - 1.0) / mean_stay(&condition.mix) * dt;
        let by_chance = rng.random::<f32>() < chance;
        let needed = self.nobody_stays() || self.held_up && self.nobody_enters();
        let wanted = by_chance || self.waiting.is_some() || needed;
        if !wanted || self.movers.len() >= MAX_OBJECTS {
            return;
        }
        let class = self
            .waiting
            .take()
            .unwrap_or_else(|| draw(&condition.mix, rng));
        match self.newcomer(class, condition, rng) {
            Some(mover) => self.movers.push(mover),
            None => self.waiting = Some(class),
        }
    }

    /// Whether nobody will be well in view a little later, who is not on the way in.
    fn nobody_stays(&self) -> bool {
        let safe = self.safe();
        !self.movers.iter().any(|mover| {
            let ahead = if mover.way > 0.0 {
                safe.x2 - mover.x
            } else {
                mover.x - safe.x1
            };
            ahead > mover.speed * FORESIGHT
        })
    }

    /// Whether nobody is about to be well in view.
    fn nobody_enters(&self) -> bool {
        let safe = self.safe();
        !self.movers.iter().any(|mover| {
            let inside = if mover.way > 0.0 {
                mover.x - safe.x1
            } else {
                safe.x2 - mover.x
            };
            inside < mover.length() / 2.0
        })
    }

    /// A new object of `class` before the edge of a free path, if there is one.
    fn newcomer(
        &mut self,
        class: Class,
        condition: &Condition,
        rng: &mut impl Rng,
    ) -> Option<Mover> {
        let open: Vec<usize> = (0..self.paths.len())
            .filter(|&path| self.paths[path].users.contains(&class) && self.entry_is_free(path))
            .collect();
        let path = *open.get(rng.random_range(0..open.len().max(1)))?;
        let Path {
            y,
            rise,
            scale,
            way,
            ..
        } = self.paths[path];
        let way = match way {
            Way::Left => -1.0,
            Way::Right => 1.0,
            Way::Both if rng.random() => 1.0,
            Way::Both => -1.0,
        };
        let (fast, slow) = class.crossing_seconds();
        let crossing = fast + (slow - fast) * rng.random::<f32>();
        let guess = self.width / crossing;
        let scale = scale * self.unit * (0.95 + 0.1 * rng.random::<f32>());
        let staging = Staging {
            scale,
            faces_left: way < 0.0,
            blur: guess * SHUTTER,
        };
        let costume = Costume::random(class, condition, staging, rng);
        let extent = costume.extent;
        let outside = self.max_shake + 1.0;
        let x = if way > 0.0 {
            -extent.right - outside
        } else {
            self.width - extent.left + outside
        };
        let stops = rng.random::<f32>() < STOPPING;
        let stop = Stop {
            x: self.width * (0.25 + 0.5 * rng.random::<f32>()),
            seconds: 0.8 + 1.7 * rng.random::<f32>(),
        };
        self.entered += 1;
        Some(Mover {
            class,
            id: self.entered,
            path,
            way,
            x,
            foot: (y + 2.4 * rng.random::<f32>() - 1.2) * self.unit,
            slope: rise * self.unit / self.width,
            middle: self.width / 2.0,
            speed: (self.width + extent.right - extent.left) / crossing,
            stop: stops.then_some(stop),
            moving: true,
            gait: 4.0 * rng.random::<f32>(),
            costume,
        })
    }

    /// Whether the last one that entered a lane has left its edge.
    fn entry_is_free(&self, path: usize) -> bool {
        let (left, right) = (6.0 * self.unit, self.width - 6.0 * self.unit);
        self.movers
            .iter()
            .filter(|mover| mover.path == path)
            .all(|mover| match self.paths[path].way {
                Way::Right => mover.bbox().x1 > left,
                Way::Left => mover.bbox().x2 < right,
                Way::Both => true,
            })
    }

    /// Free pixels before a mover: lanes are driven in line, paths are not.
    fn room_ahead(&self, mover: &Mover) -> f32 {
        if self.paths[mover.path].way == Way::Both {
            return f32::INFINITY;
        }
        let gap = 3.0 * self.unit;
        self.movers
            .iter()
            .filter(|other| other.path == mover.path && (other.x - mover.x) * mover.way > 0.0)
            .map(|other| (other.x - mover.x).abs() - (other.length() + mover.length()) / 2.0 - gap)
            .fold(f32::INFINITY, f32::min)
    }

    fn room_around(&self, mover: &Mover) -> bool {
        self.movers
            .iter()
            .filter(|other| other.path == mover.path)
            .all(|other| {
                (other.x - mover.x).abs()
                    > (other.length() + mover.length()) / 2.0 + 4.0 * self.unit
            })
    }
}

fn post_box(post: &Post) -> BBox {
    BBox {
        x1: post.x - post.half_width,
        y1: post.y - post.height,
        x2: post.x + post.half_width,
        y2: post.y,
    }
}

/// Mean time in view of the objects of a mix, in seconds.
fn mean_stay(mix: &[f32; 8]) -> f32 {
    let stay = |class: Class| {
        let (fast, slow) = class.crossing_seconds();
        0.9 * (fast + slow) / 2.0 + STOPPING * 1.6
    };
    Class::ALL
        .into_iter()
        .map(|class| mix[class.index()] * stay(class))
        .sum::<f32>()
        .max(0.5)
}

/// A class by lot.
fn draw(mix: &[f32; 8], rng: &mut impl Rng) -> Class {
    let mut left = rng.random::<f32>();
    let mut last = Class::Car;
    for class in Class::ALL {
        let weight = mix[class.index()];
        if weight > 0.0 {
            last = class;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

/// Part of a box that lies in `view` and behind none of `covers`, counted on a grid of 16 x 6.
fn visible_part<'a>(
    bbox: &BBox,
    view: &BBox,
    covers: impl Iterator<Item = &'a BBox> + Clone,
) -> f32 {
    const COLUMNS: usize = 16;
    const ROWS: usize = 6;
    let holds =
        |area: &BBox, x: f32, y: f32| area.x1 <= x && x < area.x2 && area.y1 <= y && y < area.y2;
    let mut seen = 0;
    for i in 0..COLUMNS * ROWS {
        let column = ((i % COLUMNS) as f32 + 0.5) / COLUMNS as f32;
        let row = ((i / COLUMNS) as f32 + 0.5) / ROWS as f32;
        let x = bbox.x1 + (bbox.x2 - bbox.x1) * column;
        let y = bbox.y1 + (bbox.y2 - bbox.y1) * row;
        if holds(view, x, y) && !covers.clone().any(|cover| holds(cover, x, y)) {
            seen += 1;
        }
    }
    seen as f32 / (COLUMNS * ROWS) as f32
}
