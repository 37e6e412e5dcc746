//! Puts the CNI plugin on the node and keeps it in the way of new pods.
//!
//! The program is copied to the node, and the configuration names it. Whenever another program
//! writes the configuration anew, our plugin is put back. When this process ends, all of it stays,
//! unless the mesh is being removed: a pod must not start around the mesh while an agent is exchanged.
//!
//! Rooms: `json` · [`conf`] (one configuration; pure) · [`plan`] (the directory; pure) · `files`
//! (reads and writes) · this one waits and acts.

pub mod conf;
mod files;
mod json;
pub mod plan;

pub(crate) use json::Json;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chassis::ready::{Ready, Token};
use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::conf::PLUGIN;
use self::files::Stamp;
use self::plan::{Manner, Obstacle, Plan};
use super::limits::{CNI_CONF_INTERVAL, CNI_CONF_SETTLE};
use super::report::Report;

/// What is installed where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The directory of configurations.
    pub conf_dir: PathBuf,
    /// The directory of programs.
    pub bin_dir: PathBuf,
    /// The program that is copied there.
    pub program: PathBuf,
    /// How the configuration is changed.
    pub manner: Manner,
}

/// Why it does not work.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A directory or file cannot be used.
    #[error("cannot {act} {}: {source}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel gives no more watches.
    #[error("cannot watch {}, raise fs.inotify.max_user_watches and fs.inotify.max_user_instances: {source}", path.display())]
    Watch {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
    /// Something is in the way that a person has to change.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
}

/// Keeps the plugin installed until dropped. `ready` has a reason not to be while it is not.
#[derive(Debug)]
pub struct Installer {
    settings: Settings,
    ready: Ready,
    report: Report,
    missing: Option<Token>,
    /// The program as we put it there.
    program: Option<Stamp>,
    /// The last obstacle that was told of.
    told: Option<String>,
}

impl Installer {
    /// Nothing is installed yet.
    pub fn new(settings: Settings, ready: Ready, report: Report) -> Self {
        let missing = Some(ready.register("cni plugin"));
        Self { settings, ready, report, missing, program: None, told: None }
    }

    /// Installs, and puts right for ever what others change. Fails when there is no sense in going on.
    /// Cancel safe.
    pub async fn keep(&mut self) -> Result<(), InstallError> {
        let changed = Arc::new(Notify::new());
        let _watchers =
            [watch(&self.settings.conf_dir, changed.clone())?, watch(&self.settings.bin_dir, changed.clone())?];
        loop {
            let looked = Instant::now();
            self.look();
            // Cancelled, neither arm loses anything: everything is looked at each time.
            tokio::select! {
                () = changed.notified() => sleep_until(looked + CNI_CONF_SETTLE).await,
                () = sleep_until(looked + CNI_CONF_INTERVAL) => {}
            }
        }
    }

    /// Looks once, and does what is to be done.
    fn look(&mut self) {
        let outcome = self.install();
        match &outcome {
            Ok(written) => {
                if *written {
                    self.report.installed();
                    tracing::info!(dir = %self.settings.conf_dir.display(), "the CNI plugin is installed");
                }
                self.missing = None;
                self.told = None;
            }
            Err(error) => {
                let error = error.to_string();
                if self.told.as_ref() != Some(&error) {
                    tracing::warn!("new pods do not come by the CNI plugin: {error}");
                    self.told = Some(error);
                }
                self.missing.get_or_insert_with(|| self.ready.register("cni plugin"));
            }
        }
        self.report.install_ready(outcome.is_ok());
    }

    /// Installs once; whether anything had to be written.
    fn install(&mut self) -> Result<bool, InstallError> {
        let Settings { conf_dir: dir, bin_dir, program, manner } = &self.settings;
        // Before the configuration names it.
        let path = bin_dir.join(PLUGIN);
        if self.program.is_none() || Stamp::of(&path) != self.program {
            files::install_program(program, &path).map_err(failed("install", &path))?;
            self.program = Stamp::of(&path);
        }
        let files = files::read(dir).map_err(failed("read", dir))?;
        let Plan { acts, standing } = plan::install(&files, manner);
        act(dir, &acts)?;
        standing?;
        Ok(!acts.is_empty())
    }

    /// Takes everything away again.
    pub fn remove(self) -> Result<(), InstallError> {
        let Settings { conf_dir, bin_dir, manner, .. } = &self.settings;
        let files = files::read(conf_dir).map_err(failed("read", conf_dir))?;
        act(conf_dir, &plan::uninstall(&files, &manner.owned))?;
        // After the configuration: a runtime must not call what is not there.
        let program = bin_dir.join(PLUGIN);
        files::remove(&program).map_err(failed("remove", &program))
    }
}

fn act(dir: &Path, acts: &[plan::Act]) -> Result<(), InstallError> {
    acts.iter().try_for_each(|act| files::act(dir, act).map_err(failed("write", &dir.join(act.name()))))
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::File { act, path, source }
}

fn watch(dir: &Path, changed: Arc<Notify>) -> Result<notify::RecommendedWatcher, InstallError> {
    let failed = |source| InstallError::Watch { path: dir.to_owned(), source };
    // Whatever happened, or could not be told: everything is looked at.
    let handler = move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            changed.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(handler).map_err(failed)?;
    watcher.watch(dir, RecursiveMode::NonRecursive).map_err(failed)?;
    Ok(watcher)
}
