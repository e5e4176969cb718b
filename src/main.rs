//! The `ekya` command.

mod certs;
mod check;
mod compare;
mod demo;
mod plan;
mod signals;
mod site;
mod state;
mod status;

use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory as _, Parser, Subcommand};
use ekya::audit::{self, HumanLabels};
use ekya::config::{
    self, Config, ConfigError, LearningConfig, OutputTo, SchedulerConfig, ValidConfig,
};
use ekya::export::{self, RunResults};
use ekya::node::{self, RunOptions};
use ekya::rehearse::rehearse;
use ekya::report::Report;
use ekya::source::folder::FolderConfig;
use ekya::train::{self, Effort};
use ekya::write::fill_atomically;
use ekya_actors::security::{Role, Who};
use ekya_models::Architecture;

use compare::Comparison;

/// Continuous learning of video analytics on edge servers: decides which student to retrain, how,
/// and with how much of which device, and does it.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Examples:\n  ekya check site.toml\n  ekya run --config site.toml --out run1\n  ekya compare --config site.toml --schedulers none,ekya --out both\n  ekya run --config site.toml --state state\n  ekya erase --state state --stream gate --before 2026-01-31\n\nLog level: EKYA_LOG=debug (default: info).\nExit codes: 0 done, also when stopped; 1 failed, or what was checked is wrong; 2 wrong usage;\n  130 ended at once by a second Ctrl-C; 101 a bug of the program."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the streams of a configuration, until it ends or Ctrl-C.
    Run {
        /// Configuration file (TOML).
        #[arg(long)]
        config: PathBuf,
        /// Folder for run.json, results.jsonl and labelled.jsonl.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Overrides the configuration's scheduler: ekya, ekya:optimal, none or uniform:F:C.
        #[arg(long)]
        scheduler: Option<SchedulerConfig>,
        /// Overrides the configuration's number of windows.
        #[arg(long)]
        windows: Option<usize>,
        /// Folder for checkpoints and training memories (labelled pictures); streams continue from
        /// what is there.
        #[arg(long)]
        state: Option<PathBuf>,
        /// Show a dashboard, an API and metrics over HTTP, at this address or the configuration's.
        #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "")]
        serve: Option<String>,
        #[command(flatten)]
        cluster: Join,
    },
    /// Show nodes, devices with shares granted and used, streams, and who leads.
    #[command(
        after_help = "Example:\n  ekya certs issue laptop --role observer\n  ekya status --node edge-1:7443 --as laptop"
    )]
    Status {
        /// `host:port` of any node of the site.
        #[arg(long, default_value = "127.0.0.1:7443")]
        node: String,
        /// Folder with ca.pem and the certificate.
        #[arg(long, default_value = "certs")]
        certs: PathBuf,
        /// Name in the certificate, which may be an observer's.
        #[arg(long = "as", default_value = "observer")]
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a node out of service: hand its streams to others, and wait until it runs nothing.
    ///
    /// It goes on running until it is stopped. Started again, it takes its streams back.
    #[command(
        after_help = "Example:\n  ekya certs issue operator --role client\n  ekya drain edge-2 --node edge-1:7443"
    )]
    Drain {
        /// Name of the node.
        #[arg(value_name = "NODE")]
        drained: String,
        #[command(flatten)]
        reach: site::Reach,
    },
    /// Add, end or move a stream while the nodes of a site run.
    #[command(
        after_help = "Examples:\n  ekya stream add --config new.toml --on edge-2\n  ekya stream move gate --to edge-3\n  ekya stream remove gate"
    )]
    Stream {
        #[command(subcommand)]
        what: site::Stream,
    },
    /// List the checkpoints in a state folder, and whether they are whole. A node may be running.
    Checkpoints {
        /// The state folder of `run --state`.
        #[arg(long)]
        state: PathBuf,
    },
    /// Erase a stream's frames from a state folder, and say which checkpoints have learnt from them.
    ///
    /// Erases the labelled pictures that the stream would train on, half-written ones included, and
    /// lists the checkpoints, of this stream and of others, that were trained on pictures of that
    /// time, even where those were dropped long ago. Refused while a node is running on the folder.
    /// Files are removed, not overwritten; copies elsewhere are not looked for.
    #[command(
        after_help = "Examples:\n  ekya erase --state state --stream gate\n  ekya erase --state state --stream gate --before 2026-01-31T12:00:00Z --checkpoints\n\nSo that frames go by themselves: retention_hours under [learning] in the configuration.\nExit codes: 0 erased (also when there was nothing), 1 failed or in use by a node, 2 wrong usage."
    )]
    Erase {
        /// The state folder of `run --state`.
        #[arg(long)]
        state: PathBuf,
        /// Name of the stream.
        #[arg(long)]
        stream: String,
        /// Only frames taken before: a date (UTC), a time as in 2026-01-31T12:00:00Z, or Unix seconds.
        #[arg(long)]
        before: Option<state::Time>,
        /// Remove those checkpoints too.
        #[arg(long)]
        checkpoints: bool,
    },
    /// Make the certificates by which nodes know each other.
    ///
    /// A site has one authority and, for each node, client or observer, a certificate that it has
    /// signed. Making one again renews it: nodes that are given the new file use it from their next
    /// connection on, and those that exist stay.
    #[command(
        after_help = "Examples:\n  ekya certs init --folder certs\n  ekya certs issue edge-1 --folder certs\n  ekya certs issue laptop --role client --days 7 --folder certs"
    )]
    Certs {
        #[command(subcommand)]
        command: Certs,
    },
    /// Print completions of commands and options for a shell.
    #[command(after_help = "Example:\n  ekya completions bash > /etc/bash_completion.d/ekya")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages: ekya(1), and one a command.
    #[command(after_help = "Example:\n  ekya man --out /usr/local/share/man/man1")]
    Man {
        /// Folder to write into, made when absent.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check a configuration without running it: names line and key of everything that is wrong.
    ///
    /// Cameras, models and other files are not opened.
    #[command(
        after_help = "Exit codes: 0 nothing is wrong, 1 something is, or the file cannot be read, 2 wrong usage."
    )]
    Check {
        /// Configuration file (TOML).
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the reference of all keys of a configuration, in Markdown.
    #[command(
        after_help = "Examples:\n  ekya config | less\n  ekya config --schema > ekya.schema.json\n\nWith `#:schema ./ekya.schema.json` as its first line, editors that use Taplo complete and check a\nconfiguration by the schema."
    )]
    Config {
        /// Print a JSON Schema for editors instead.
        #[arg(long)]
        schema: bool,
    },
    /// Run a configuration under several schedulers, one after another, and compare them.
    Compare {
        /// Configuration file (TOML).
        #[arg(long)]
        config: PathBuf,
        /// Schedulers: ekya, ekya:optimal, none or uniform:F:C.
        #[arg(long, value_delimiter = ',', default_value = "none,ekya")]
        schedulers: Vec<SchedulerConfig>,
        /// Folder for report.html, summary.json and the runs.
        #[arg(long)]
        out: PathBuf,
    },
    /// Set a run's measured accuracy right by what people say of some of its frames.
    ///
    /// First `--draw` frames at random and let people fill in their classes (for a detector, a line
    /// an object with its box; where nothing is, one line with an empty class), then `--human` them.
    /// A frame in which nothing is and nothing was found counts as right.
    #[command(
        after_help = "Examples:\n  ekya audit --run run1 --draw 50 > human.csv\n  ekya audit --run run1 --human human.csv"
    )]
    #[command(group(clap::ArgGroup::new("what").required(true).args(["human", "draw"])))]
    Audit {
        /// Folder of `run --out`.
        #[arg(long)]
        run: PathBuf,
        /// CSV of people's labels: stream, frame, class[, x1, y1, x2, y2].
        #[arg(long)]
        human: Option<PathBuf>,
        /// Print such a CSV, to be filled in, with so many labelled frames of each stream.
        #[arg(long)]
        draw: Option<usize>,
        /// Seed of the drawing.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Say how many cameras fit on devices such as those of a finished run, and what one more costs.
    ///
    /// Plans the run's windows again with other numbers of cameras, by the scheduler that nodes plan with,
    /// on what was measured and profiled in the run. What it prints is the accuracy that was measured plus
    /// what the plans expect to be different: no measurement, and for cameras like those of the run.
    #[command(
        after_help = "Examples:\n  ekya run --config site.toml --windows 6 --out run1\n  ekya plan run1\n  ekya plan run1 --accuracy 0.8 --devices 2"
    )]
    Plan {
        /// Folder of `run --out`, of two windows or more under the scheduler ekya.
        run: PathBuf,
        #[command(flatten)]
        question: plan::Question,
    },
    /// Write a page with charts of finished runs, report.html: one file that needs nothing else.
    #[command(
        after_help = "Example:\n  ekya run --config site.toml --windows 6 --out run1\n  ekya report run1"
    )]
    Report {
        /// Folders of `run --out`; several are compared.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Folder for report.html and summary.json; absent: that of the first run.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Convert a finished run's results into a form that evaluation tools read.
    ///
    /// `coco` is a data set of one stream: a picture a frame, a category a class, an annotation with its
    /// score a detection. `supervision` is the CSV of Supervision's CSVSink, a row a detection.
    #[command(
        after_help = "Examples:\n  ekya export run1 --format coco --stream gate -o gate.json\n  ekya export run1 --format supervision > detections.csv"
    )]
    Export {
        /// Folder of `run --out`.
        run: PathBuf,
        /// The form.
        #[arg(long)]
        format: Format,
        /// Name of the stream; all, where the form has room for several.
        #[arg(long)]
        stream: Option<String>,
        /// File to write; standard output where none is named.
        #[arg(short, long)]
        out: Option<PathBuf>,
    },
    /// Compare schedulers on four procedural scenes that drift differently.
    Demo {
        /// Folder for report.html, summary.json and the runs.
        #[arg(long, default_value = "out/demo")]
        out: PathBuf,
        /// All six uniform splits at three levels of load; up to an hour with three seeds.
        #[arg(long)]
        full: bool,
        /// How many seeds to run.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
    },
    /// Train a first student on a labelled folder.
    Train {
        /// Folder with manifest.csv, or a CSV file of that form.
        #[arg(long)]
        manifest: PathBuf,
        /// Checkpoint to write.
        #[arg(long)]
        out: PathBuf,
        /// Network, as in configurations: small, resnet18, mobilenetv2:0.5, …
        #[arg(long, default_value = "small")]
        architecture: Architecture,
        /// Class names in the order of the stream's configuration; default: the manifest's, sorted.
        #[arg(long, value_delimiter = ',')]
        classes: Vec<String>,
        /// Passes over the data.
        #[arg(long, default_value_t = 20)]
        epochs: usize,
    },
    /// Make the built-in history again: every retraining configuration tried on procedural scenes.
    Rehearse {
        /// File to write (JSON).
        #[arg(long)]
        out: PathBuf,
        /// Scenes of every kind of drift.
        #[arg(long, default_value_t = 1)]
        scenes: u64,
    },
    /// Make the built-in weights of the procedural scene again.
    TrainScene {
        /// Folder for the two checkpoints.
        #[arg(long)]
        out: PathBuf,
        /// Frames to train the student on; 0 leaves it out.
        #[arg(long, default_value_t = 3000)]
        student_frames: usize,
        /// Frames to train the teacher on; 0 leaves it out.
        #[arg(long, default_value_t = 20000)]
        teacher_frames: usize,
        /// Passes of the student.
        #[arg(long, default_value_t = 8)]
        student_epochs: usize,
        /// Passes of the teacher.
        #[arg(long, default_value_t = 6)]
        teacher_epochs: usize,
    },
}

/// Forms of results.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A data set as COCO's.
    Coco,
    /// CSV as Supervision's.
    Supervision,
}

/// How a node is one among others. Overrides what the configuration says under [cluster].
#[derive(clap::Args)]
#[command(next_help_heading = "Several nodes")]
struct Join {
    /// `host:port` of another node of the site; may be given several times.
    #[arg(long)]
    join: Vec<String>,
    /// Name of this node, as in its certificate. With it alone, others join this one.
    #[arg(long)]
    name: Option<String>,
    /// Folder with ca.pem and this node's certificate and key.
    #[arg(long)]
    certs: Option<PathBuf>,
    /// IP address and port to listen at.
    #[arg(long)]
    listen: Option<String>,
    /// `host:port` that others dial, where it is not the one listened at.
    #[arg(long)]
    advertise: Option<String>,
}

impl Join {
    /// Puts what was given in the place of what is configured.
    fn put_into(&self, config: &mut Config) {
        if self.join.is_empty() && self.name.is_none() && config.cluster.is_none() {
            return;
        }
        let cluster = config.cluster.get_or_insert_default();
        if !self.join.is_empty() {
            cluster.seeds.clone_from(&self.join);
        }
        let given = [
            (&self.name, &mut cluster.name),
            (&self.listen, &mut cluster.listen),
        ];
        for (given, configured) in given {
            if let Some(given) = given {
                configured.clone_from(given);
            }
        }
        if let Some(certs) = &self.certs {
            cluster.certs.clone_from(certs);
        }
        cluster.advertise = self.advertise.clone().or(cluster.advertise.take());
    }
}

/// Has a node shown over HTTP, at `address` unless that is empty.
fn show_at(config: &mut Config, address: &str) {
    let serve = config.serve.get_or_insert_default();
    if !address.is_empty() {
        address.clone_into(&mut serve.listen);
    }
}

/// What to do about certificates.
#[derive(Subcommand)]
enum Certs {
    /// Make a new authority.
    Init {
        /// Folder for ca.pem and ca.key.
        #[arg(long, default_value = "certs")]
        folder: PathBuf,
        /// Days that it is valid.
        #[arg(long, default_value_t = 3650)]
        days: u32,
    },
    /// Make a certificate, or a new one in place of an older one.
    Issue {
        /// Name: lower-case letters, digits and hyphens.
        name: String,
        /// What it allows: node runs actors, client calls them, observer only looks.
        #[arg(long, default_value = "node")]
        role: Role,
        /// Folder with ca.pem and ca.key.
        #[arg(long, default_value = "certs")]
        folder: PathBuf,
        /// Days that it is valid.
        #[arg(long, default_value_t = 90)]
        days: u32,
    },
}

fn main() -> ExitCode {
    ekya::worker::serve_if_asked();
    let command = Cli::parse().command;
    // Whoever asks a question wants the answer alone.
    let asks = matches!(
        command,
        Command::Status { .. } | Command::Drain { .. } | Command::Stream { .. }
    );
    let usual = if asks { "warn" } else { "warn,ekya=info" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("EKYA_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log file holds no colours, nor does a terminal whose owner wants none.
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    match act(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> Result<()> {
    match command {
        Command::Run {
            config,
            out,
            scheduler,
            windows,
            state,
            serve,
            cluster,
        } => {
            let read = move || {
                let config = load(&config)?.with(|config| {
                    cluster.put_into(config);
                    if let Some(address) = &serve {
                        show_at(config, address);
                    }
                    config.run.scheduler = scheduler.unwrap_or(config.run.scheduler);
                    config.run.windows = windows.unwrap_or(config.run.windows);
                    config.run.state = state.clone().or(config.run.state.take());
                })?;
                anyhow::Ok(config)
            };
            run(&read()?, read, out)
        }
        Command::Status {
            node,
            certs,
            name,
            json,
        } => status::status(&node, &certs, &name, json),
        Command::Drain { drained, reach } => site::drain(&drained, &reach),
        Command::Stream { what } => site::stream(what),
        Command::Checkpoints { state } => state::checkpoints(&state),
        Command::Erase {
            state,
            stream,
            before,
            checkpoints,
        } => state::erase(&state, &stream, before, checkpoints),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "ekya", &mut std::io::stdout());
            Ok(())
        }
        Command::Man { out } => {
            std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
            clap_mangen::generate_to(Cli::command(), &out)
                .with_context(|| out.display().to_string())
        }
        Command::Check { file, json } => check::check(&file, json),
        Command::Config { schema } => {
            let text = if schema {
                format!("{:#}\n", config::schema())
            } else {
                config::reference()
            };
            // Whoever pages through it may have seen enough before its end.
            match std::io::stdout().write_all(text.as_bytes()) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
                _ => Ok(()),
            }
        }
        Command::Certs { command } => match command {
            Certs::Init { folder, days } => certs::init(&folder, days),
            Certs::Issue {
                name,
                role,
                folder,
                days,
            } => certs::issue(&folder, &Who::new(&name, role)?, days),
        },
        Command::Compare {
            config,
            schedulers,
            out,
        } => {
            let config = load(&config)?;
            let comparison = Comparison {
                config,
                schedulers,
                load: None,
            };
            compare::run(vec![comparison], &out, &signals::stop()?)
        }
        Command::Audit {
            run,
            human,
            draw,
            seed,
        } => {
            let run = audit::Run::read(&run)?;
            if let Some(count) = draw {
                audit::draw(&run, count, seed, std::io::stdout().lock())?;
            }
            if let Some(human) = human {
                let human = HumanLabels::read(&human, &run)?;
                print!("{}", audit::table(&audit::audit(&run, &human)));
            }
            Ok(())
        }
        Command::Plan { run, question } => plan::plan(&run, &question),
        Command::Report { runs, out } => report(&runs, out.as_deref()),
        Command::Export {
            run,
            format,
            stream,
            out,
        } => export(&RunResults::open(&run, stream.as_deref())?, format, out),
        Command::Demo { out, full, seeds } => {
            compare::run(demo::comparisons(full, seeds)?, &out, &signals::stop()?)
        }
        Command::Train {
            manifest,
            out,
            architecture,
            classes,
            epochs,
        } => {
            let folder = FolderConfig {
                classes,
                ..FolderConfig::new(manifest)
            };
            train::train_folder(&folder, architecture, epochs, &out, 1)?;
            Ok(())
        }
        Command::Rehearse { out, scenes } => {
            rehearse(&LearningConfig::default(), scenes, &out)?;
            Ok(())
        }
        Command::TrainScene {
            out,
            student_frames,
            teacher_frames,
            student_epochs,
            teacher_epochs,
        } => {
            let effort = |frames, epochs| (frames > 0).then_some(Effort { frames, epochs });
            train::train_scene(
                &out,
                effort(student_frames, student_epochs),
                effort(teacher_frames, teacher_epochs),
                1,
            )?;
            Ok(())
        }
    }
}

fn export(results: &RunResults, format: Format, out: Option<PathBuf>) -> Result<()> {
    let write = |out: &mut dyn Write| match format {
        Format::Coco => export::coco(results, out),
        Format::Supervision => export::supervision(results, out),
    };
    match out {
        Some(path) => fill_atomically(&path, |file| write(&mut BufWriter::new(file)))?,
        None => write(&mut BufWriter::new(std::io::stdout().lock()))?,
    }
    Ok(())
}

fn load(file: &Path) -> Result<ValidConfig> {
    read(file).with_context(|| file.display().to_string())
}

fn read(file: &Path) -> Result<ValidConfig, ConfigError> {
    let config = ValidConfig::load(file)?;
    // What is a program's own is for programs that embed ekya.
    RunOptions::new().check(&config)?;
    Ok(config)
}

/// Writes a report of finished runs.
fn report(runs: &[PathBuf], out: Option<&Path>) -> Result<()> {
    let read = |run: &PathBuf| anyhow::Ok((None, plan::read(run)?));
    let records = runs.iter().map(read).collect::<Result<_>>()?;
    let out = out.unwrap_or(&runs[0]);
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    Report { records }.write(out)?;
    println!("report: {}", out.join("report.html").display());
    Ok(())
}

/// Configurations that may wait while a node takes one.
const RELOADS_MAX: usize = 8;

/// Runs a node; at SIGHUP its configuration is `read` again.
fn run(
    config: &ValidConfig,
    read: impl Fn() -> Result<ValidConfig> + Send + 'static,
    out: Option<PathBuf>,
) -> Result<()> {
    let (reload, reloads) = crossbeam_channel::bounded(RELOADS_MAX);
    let stop = signals::stop_or(move || match read() {
        Ok(config) => {
            if reload.try_send(config).is_err() {
                tracing::error!("the node is still busy with configurations before this one");
            }
        }
        Err(error) => tracing::error!("the configuration stays as it was: {error:#}"),
    })?;
    let mut options = RunOptions::new()
        .stop(stop)
        .reloads(reloads)
        .on_window(|done| tracing::info!(done, "window over"));
    if let Some(out) = out {
        options = options.out(out);
    }
    let lines_on_stdout = config.outputs.iter().any(|one| one.to == OutputTo::Stdout);
    let record = node::run(config, options)?;
    let summary = compare::describe(&record);
    if lines_on_stdout {
        eprintln!("{summary}");
    } else {
        println!("{summary}");
    }
    Ok(())
}
