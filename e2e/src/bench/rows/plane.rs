//! A control plane of its own that reads a mesh which nobody runs, with a thousand proxies beside it.

use crate::{
    apps::audience::mesh,
    bench::{
        figure::Unit,
        rig::{self, Rig},
        usage::{self, Process},
    },
    stage::{Going, Stage},
};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// Proxies that are connected.
pub(super) const PROXIES: usize = 1000;
/// The largest mesh is read within this, and told to all proxies; changes end so long after the last was due.
const DEADLINE: Duration = Duration::from_secs(600);
/// With more it is stopped: the machine is not all ours.
const RESIDENT_MAX: f64 = 8e9;
/// Between two looks at whether the changes are made: often enough, and not so often that it costs something.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// One that runs.
pub(super) struct Plane {
    pod: String,
    manifest: String,
    /// Where it has its files.
    place: String,
    address: String,
    /// Its process.
    pub(super) processes: Vec<Process>,
}

/// Its proxies, all of them connected and up to date.
pub(super) struct Audience {
    going: Going,
    /// The file that says that they are, and the one that is waited for then.
    ready: String,
    go: String,
    /// How long its changes take at least.
    long: Duration,
}

impl Plane {
    /// Starts one with a mesh of so many pods, and waits until it has read them. The name is nobody else's.
    pub(super) fn start(rig: &mut Rig, name: &str, pods: usize) -> Result<Self> {
        let folder = rig.folder(name)?;
        let config = folder.join("config");
        std::fs::create_dir_all(folder.join("state"))?;
        mesh::write(&config, pods)?;
        let place = folder.to_str().context("a path that is no text")?.to_owned();
        let manifest = POD.replace("PLACE", &place).replace("NAME", name);
        rig.stage.apply(&manifest)?;
        let pod = format!("plain/{name}");
        rig.stage.wait("the control plane has read everything", DEADLINE, |stage| {
            Ok(stage.pod(&pod).is_ok_and(|pod| pod.is_ready))
        })?;
        let config = config.to_str().context("a path that is no text")?;
        let processes = rig.process(&["meshctl", "istiod", config])?;
        let address = format!("https://{}:15012", rig.address(&pod)?);
        Ok(Self { pod, manifest, place, address, processes })
    }

    /// Starts the proxies. They run where it does, so that both see one directory.
    pub(super) fn audience(&self, rig: &mut Rig, seconds: f64, more: &[&str]) -> Result<Audience> {
        let (ready, go) = (Stage::fresh_path(), Stage::fresh_path());
        let (proxies, state, config) =
            (PROXIES.to_string(), format!("{}/state", self.place), format!("{}/config", self.place));
        let argv = ["audience", &self.address, "--state", &state, "--config", &config, "--proxies", &proxies];
        let argv = [&argv[..], &["--ready-file", &ready, "--go-file", &go], more].concat();
        let going = rig.stage.app(&self.pod, &argv)?;
        let long = Duration::from_secs_f64(seconds);
        let audience = Audience { going, ready, go, long };
        match self.there(rig, "all proxies are connected", &audience, &audience.ready, DEADLINE, || Ok(())) {
            Ok(()) => Ok(audience),
            Err(error) => Err(audience.failed(error)),
        }
    }

    /// Waits for a file of the audience, with something to do at each look. An audience that has ended writes none.
    fn there(
        &self,
        rig: &mut Rig,
        what: &str,
        audience: &Audience,
        path: &str,
        deadline: Duration,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut process = None;
        let root = rig.root;
        rig.stage.wait(what, deadline, |stage| {
            look()?;
            let resident = usage::total(&self.processes)?.resident;
            ensure!(resident < RESIDENT_MAX, "the control plane has {} resident", Unit::Bytes.show(resident));
            rig::pause(LOOK_INTERVAL);
            let found = usage::below(root, &["audience", &audience.go])?.pop();
            // In this order: what has ended after its last word has said it.
            if stage.exec(&self.pod, &["test", "-s", path])?.code == 0 {
                return Ok(true);
            }
            ensure!(process.is_none() || found.is_some(), "the proxies have ended");
            process = found;
            Ok(false)
        })?;
        Ok(())
    }

    /// How many resources it has encoded so far.
    pub(super) fn encodes(&self, rig: &Rig) -> Result<f64> {
        let text = rig.stage.exec(&self.pod, &["curl", "-sS", "-f", "http://127.0.0.1:15014/metrics"])?.ok()?;
        encodes(&text).context("it does not tell how many resources it has encoded")
    }

    /// Ends it.
    pub(super) fn stop(self, rig: &Rig) -> Result<()> {
        rig.stage.delete(&self.manifest)
    }
}

impl Audience {
    /// Has the changes made, and says what seconds of a core the control plane used for them; the report comes later.
    /// `look` is called again and again meanwhile.
    pub(super) fn change(self, rig: &mut Rig, plane: &Plane, look: impl FnMut() -> Result<()>) -> Result<(Going, f64)> {
        let before = usage::total(&plane.processes)?;
        rig.stage.exec(&plane.pod, &["touch", &self.go])?.ok()?;
        let done = format!("{}.done", self.go);
        if let Err(error) = plane.there(rig, "all changes are made", &self, &done, self.long + DEADLINE, look) {
            return Err(self.failed(error));
        }
        let used = usage::total(&plane.processes)?.seconds - before.seconds;
        Ok((self.going, used))
    }

    /// With what the proxies said of it.
    fn failed(self, error: anyhow::Error) -> anyhow::Error {
        match self.going.stop() {
            Ok(said) => error.context(said.stderr.trim().to_owned()),
            Err(_gone) => error,
        }
    }
}

fn encodes(metrics: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix("istiod_lite_xds_encodes "))?.trim().parse().ok()
}

/// It reads a directory, and nobody runs what is in there.
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: { name: NAME, namespace: plain, labels: { app: plane } }\n\
    spec:\n  nodeName: node2\n  containers:\n    - name: discovery\n\
    \x20     command: [meshctl, istiod, discovery, --config-dir, PLACE/config, --state-dir, PLACE/state]\n\
    \x20     readinessProbe: { httpGet: { port: 8080, path: /ready }, periodSeconds: 1 }\n\
    \x20     volumeMounts: [{ name: place, mountPath: PLACE }]\n\
    \x20 volumes: [{ name: place, hostPath: { path: PLACE } }]\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_read_from_the_metrics() {
        assert_eq!(encodes("# TYPE x gauge\nistiod_lite_xds_encodes 17\n# EOF\n"), Some(17.0));
        assert_eq!(encodes("istiod_lite_xds_encodes_of_another_kind 17\n"), None);
    }
}
