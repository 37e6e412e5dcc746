//! Where rows are measured: a lab with the same pods twice, in the mesh and outside of it, and rounds in which each
//! contender has its turn.

use super::{
    figure::{Figure, Target, Unit},
    usage::{self, Process},
};
use crate::stage::{self, Going, Stage};
use anyhow::{Context, Result, ensure};
use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Less work than this of its proxies, in cores, and what was measured went around them.
const CORES_MIN: f64 = 0.02;
/// A server of a peer listens within this, or it does not start at all.
const LISTEN_DEADLINE: Duration = Duration::from_secs(20);

/// What nobody reads to its end; it takes no room on the disk.
const BIG_BYTES: u64 = 200 << 20;
/// Memory is looked at this often, and is settled when it moves less than this share in between.
const SETTLE: (Duration, f64) = (Duration::from_millis(500), 0.005);
/// Memory that does not settle within this is measured as it is.
const SETTLE_DEADLINE: Duration = Duration::from_secs(20);

/// What rows are measured with.
pub struct Rig {
    /// The lab, with the pods of [`PODS`].
    pub stage: Stage,
    /// How long one contender is measured, in seconds.
    pub seconds: f64,
    /// How often each is measured.
    pub rounds: usize,
    /// What our programs are built with.
    profile: String,
    env: Vec<Variable>,
    /// The lab's first process.
    pub root: u32,
    /// Files for the pods, which see them where this program does.
    folder: tempfile::TempDir,
}

/// A line of figures to be: what, in what, and what is promised.
pub type Wanted<'a> = (&'a str, Unit, &'a [Target]);

/// How a contender is measured once: one value a figure.
pub type Measure<'a> = Box<dyn Fn(&Rig) -> Result<Vec<f64>> + 'a>;

/// One of those that are compared.
pub struct Contender<'a> {
    /// Its name in the table.
    pub who: &'static str,
    /// Its proxies.
    pub proxies: Vec<Process>,
    /// How it is measured.
    pub measure: Measure<'a>,
}

/// A variable of one of the mesh's programs: which, its name, and its value.
pub type Variable = (String, String, String);

impl<'a> Contender<'a> {
    /// One with its proxies.
    pub fn new(who: &'static str, proxies: Vec<Process>, measure: impl Fn(&Rig) -> Result<Vec<f64>> + 'a) -> Self {
        Self { who, proxies, measure: Box::new(measure) }
    }
}

impl Rig {
    /// Another one beside this one, in a lab of its own.
    pub fn another(&self) -> Result<Self> {
        Self::named("b", &self.profile, self.env.clone(), self.seconds, self.rounds)
    }

    /// Builds our programs, and starts the lab and the pods in it.
    pub fn start(profile: &str, env: Vec<Variable>, seconds: f64, rounds: usize) -> Result<Self> {
        Self::named("a", profile, env, seconds, rounds)
    }

    fn named(name: &str, profile: &str, env: Vec<Variable>, seconds: f64, rounds: usize) -> Result<Self> {
        let meshctl = stage::built(profile, &["-p", "meshctl"], "meshctl")?;
        let folder = tempfile::Builder::new().prefix("mesh-bench-").tempdir()?;
        let here = folder.path().display().to_string();
        std::fs::write(folder.path().join("nginx.conf"), NGINX.replace("FOLDER", &here))?;
        std::fs::File::create(folder.path().join("big"))?.set_len(BIG_BYTES)?;
        let variables: Vec<_> = env.iter().map(|(program, key, value)| (&**program, &**key, &**value)).collect();
        let stage = Stage::start_as(&format!("bench-{}-{name}", std::process::id()), &meshctl, &variables)?;
        let pid = std::fs::read_to_string(stage.lab().run_dir().join("pid")).context("the lab has no process")?;
        let root = pid.trim().parse().context("the lab's process has no number")?;
        let mut rig = Self { stage, seconds, rounds, profile: profile.into(), env, root, folder };
        rig.stage.apply(&rig.filled(PODS))?;
        rig.stage.ready(&ALL)?;
        rig.stage.enrolled(&ALL.into_iter().filter(|pod| pod.starts_with("meshed/")).collect::<Vec<_>>(), true)?;
        for pod in ALL.into_iter().filter(|pod| !pod.ends_with("/client")) {
            let client = format!("{}/client", pod.split('/').next().unwrap_or_default());
            let target = format!("{}:8080", rig.address(pod)?);
            rig.stage.wait(&format!("{pod} answers"), LISTEN_DEADLINE, |stage| Ok(stage.answers(&client, &target)))?;
        }
        Ok(rig)
    }

    /// The first address of a pod.
    pub fn address(&self, pod: &str) -> Result<std::net::IpAddr> {
        self.stage.pod_addresses(pod)?.first().copied().with_context(|| format!("{pod} has no address"))
    }

    /// The node proxies, in the order of their nodes.
    pub fn ztunnels(&self) -> Result<Vec<Process>> {
        usage::exactly(usage::below(self.root, &["meshctl", "ztunnel", "proxy"])?, 2, "node proxies")
    }

    /// The process in the lab with some words on its command line.
    pub fn process(&self, words: &[&str]) -> Result<Vec<Process>> {
        let begun = Instant::now();
        loop {
            let found = usage::below(self.root, words)?;
            // One that was just made has the words of its parent, until it has its own.
            if found.len() == 1 || begun.elapsed() > LISTEN_DEADLINE {
                return usage::exactly(found, 1, &words.join(" "));
            }
            pause(SETTLE.0);
        }
    }

    /// Writes a file that pods see too, and says where.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// A folder of its own that pods can mount.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Manifests with the place of those files filled in.
    pub fn filled(&self, manifests: &str) -> String {
        manifests.replace("FOLDER", &self.folder.path().display().to_string())
    }

    /// Builds an example of a package with the profile of our programs, and says where it is.
    pub fn example(&self, package: &str, name: &str) -> Result<PathBuf> {
        stage::built(&self.profile, &["-p", package, "--example", name], &format!("examples/{name}"))
    }

    /// Builds an example of a package and runs it here, beside the lab; gives what it printed.
    pub fn here(&self, package: &str, name: &str, argv: &[&str]) -> Result<String> {
        let program = self.example(package, name)?;
        let out =
            std::process::Command::new(&program).args(argv).output().with_context(|| program.display().to_string())?;
        ensure!(
            out.status.success(),
            "{name} ended with {}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Runs a command in a pod to its end, and gives what it printed.
    pub fn run(&self, pod: &str, argv: &[String]) -> Result<String> {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        self.stage.exec(pod, &argv)?.ok().with_context(|| format!("{} in {pod}", argv.join(" ")))
    }

    /// Starts a server in a pod and waits until a port of it is open.
    pub fn serve(&mut self, pod: &str, argv: &[&str], port: u16) -> Result<Going> {
        let server = self.stage.spawn(pod, argv)?;
        let look = format!(": < /dev/tcp/127.0.0.1/{port}");
        let what = format!("{} listens on {port} in {pod}", argv.first().unwrap_or(&""));
        self.stage.wait(&what, LISTEN_DEADLINE, |stage| Ok(stage.exec(pod, &["bash", "-c", &look])?.code == 0))?;
        Ok(server)
    }

    /// Starts connections in a pod that do nothing once they are open, and waits until they are.
    pub fn idle(&mut self, pod: &str, to: SocketAddr, connections: usize, more: &[&str]) -> Result<Going> {
        let (ready, count, to) = (Stage::fresh_path(), connections.to_string(), to.to_string());
        let program = Stage::e2e()?;
        // As many descriptors as connections, and a few.
        let limited = format!("ulimit -n {}; exec \"$@\"", connections + 1000);
        let mut argv = vec!["sh", "-c", &limited, "sh", &program, "app", "idle", &to];
        argv.extend(["--connections", &count, "--ready-file", &ready]);
        argv.extend(more);
        let going = self.stage.spawn(pod, &argv)?;
        if let Err(error) = self.stage.written(pod, &ready) {
            let said = going.stop()?.stderr;
            return Err(error.context(format!("{connections} connections do not open: {}", said.trim())));
        }
        Ok(going)
    }

    /// What processes have resident, each, once that has settled.
    pub fn settled(&self, processes: &[Process]) -> Result<Vec<f64>> {
        let look = || processes.iter().map(|process| Ok(process.usage()?.resident)).collect::<Result<Vec<f64>>>();
        let (mut last, began) = (look()?, Instant::now());
        loop {
            pause(SETTLE.0);
            let now = look()?;
            let moved = last.iter().zip(&now).any(|(last, now)| (now - last).abs() > last * SETTLE.1);
            if !moved || began.elapsed() > SETTLE_DEADLINE {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Measures contenders in turn, round by round.
    pub fn rounds(&self, wanted: &[Wanted], contenders: &[Contender]) -> Result<Vec<Figure>> {
        let mut figures: Vec<Figure> =
            wanted.iter().map(|(what, unit, targets)| Figure::new(what, *unit, targets)).collect();
        for _ in 0..self.rounds {
            for contender in contenders {
                self.turn(&mut figures, contender).with_context(|| contender.who.to_owned())?;
            }
        }
        Ok(figures)
    }

    fn turn(&self, figures: &mut [Figure], contender: &Contender) -> Result<()> {
        let meter = Meter::begin(&contender.proxies)?;
        let values = (contender.measure)(self)?;
        let used = meter.end()?;
        ensure!(values.len() == figures.len(), "{} values for {} figures", values.len(), figures.len());
        for (figure, value) in figures.iter_mut().zip(values) {
            figure.add(contender.who, value);
        }
        if let (Some(used), Some(first)) = (used, figures.first_mut()) {
            first.cost(contender.who, contender.proxies.len(), used.cores, used.resident);
        }
        Ok(())
    }
}

/// What proxies use from its beginning to its end.
pub struct Meter<'a> {
    proxies: &'a [Process],
    before: f64,
    began: Instant,
}

/// What they used.
pub struct Used {
    /// Seconds of a core, in each second.
    pub cores: f64,
    /// Resident bytes of all of them, at the end.
    pub resident: f64,
}

impl<'a> Meter<'a> {
    /// Begins.
    pub fn begin(proxies: &'a [Process]) -> Result<Self> {
        Ok(Self { proxies, before: usage::total(proxies)?.seconds, began: Instant::now() })
    }

    /// Ends; none where there are no proxies. Fails where there are some that did nothing.
    pub fn end(self) -> Result<Option<Used>> {
        let took = self.began.elapsed().as_secs_f64();
        if self.proxies.is_empty() {
            return Ok(None);
        }
        let after = usage::total(self.proxies)?;
        let cores = (after.seconds - self.before) / took;
        ensure!(cores > CORES_MIN, "its proxies had nothing to do: what was measured went around them");
        Ok(Some(Used { cores, resident: after.resident }))
    }
}

/// A while in which the processes that are measured do what they do.
pub fn pause(length: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(length);
}

/// The pods that rows use. `plain` has no mesh, `meshed` does; `server` is on the other node, `near` on the client's.
const ALL: [&str; 6] = ["plain/client", "plain/server", "plain/near", "meshed/client", "meshed/server", "meshed/near"];

/// Their manifests.
const PODS: &str = include_str!("pods.yaml");

/// The server behind everything: one worker, an answer of 120 bytes, connections that stay.
const NGINX: &str = "\
daemon off; worker_processes 1; worker_rlimit_nofile 60000; pid /tmp/nginx.pid; error_log stderr;
events { worker_connections 30000; multi_accept on; }
http {
  access_log off; default_type text/plain; keepalive_timeout 1h; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_temp_path /tmp/nginx-body; proxy_temp_path /tmp/nginx-proxy; fastcgi_temp_path /tmp/nginx-fastcgi;
  uwsgi_temp_path /tmp/nginx-uwsgi; scgi_temp_path /tmp/nginx-scgi;
  server {
    listen 8080 backlog=8192 reuseport; listen [::]:8080 backlog=8192 reuseport;
    location /big { alias FOLDER/big; }
    location / { return 200 \"answer answer answer answer answer answer answer answer answer answer answer answer answer answer answer answer answer.\\n\"; }
  }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_the_docs_say() {
        let body = NGINX.split("return 200 \"").nth(1).and_then(|rest| rest.split("\\n").next()).unwrap();
        assert_eq!(body.len() + 1, 120);
    }
}
