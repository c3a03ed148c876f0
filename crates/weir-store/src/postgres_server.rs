//! A throw-away PostgreSQL server for tests: real, empty, reachable only through its socket.

use std::io::{self, Error};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Weak};
use std::time::{Duration, Instant};
use std::{fs, sync::Arc, thread};

/// Runs the server and, when its standard input ends, stops it and removes its folder. The pipe closes
/// however the test process ends, killed or not, so nothing is left running.
const KEEPER: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c synchronous_commit=off \
    -c full_page_writes=off -c shared_buffers=32MB -c max_connections=200 >"$2/server.log" 2>&1 &
server=$!
read -r _
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf "$2"
"#;

/// A running server. The last handle to be dropped stops it.
pub struct PostgresServer {
    folder: PathBuf,
    keeper: Child,
    input: Option<ChildStdin>,
    databases: AtomicU32,
}

impl PostgresServer {
    /// Starts a server of its own.
    ///
    /// # Errors
    /// When PostgreSQL is not installed (the message says what to install) or does not start.
    pub fn start() -> io::Result<Self> {
        let programs = find_programs()?;
        let folder = PathBuf::from(run(as_postgres("mktemp").args(["-d", "/tmp/weir-postgres-XXXXXX"]))?);
        run(as_postgres(programs.join("initdb")).arg("-D").arg(folder.join("data")).args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
        ]))?;
        let mut keeper = as_postgres("sh")
            .args(["-c", KEEPER, "sh"])
            .args([&programs, &folder])
            // A Ctrl-C goes to the whole group of the terminal; the keeper must outlive the test.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let input = keeper.stdin.take();
        let mut server = Self { folder, keeper, input, databases: AtomicU32::new(0) };
        server.wait_until_ready(&programs)?;
        Ok(server)
    }

    /// One server for all tests of a process: the running one if anybody still holds it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn shared() -> io::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
        let mut shared =
            SHARED.lock().map_err(|_| Error::other("another test panicked while starting PostgreSQL"))?;
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// The URL of a database of this server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder.display())
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self) -> io::Result<String> {
        let name = format!("weir_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run_sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        Ok(self.url(&name))
    }

    /// Runs SQL as the superuser and returns its output, one row a line.
    ///
    /// # Errors
    /// When the server refuses; the message is the server's.
    pub fn run_sql(&self, database: &str, sql: &str) -> io::Result<String> {
        let psql = find_programs()?.join("psql");
        run(as_postgres(psql).arg("-h").arg(&self.folder).args([
            "-U",
            "postgres",
            "-d",
            database,
            "-v",
            "ON_ERROR_STOP=1",
            "-qAtX",
            "-c",
            sql,
        ]))
    }

    /// The process id of the server, to stop and continue it with signals.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn pid(&self) -> io::Result<u32> {
        let text = fs::read_to_string(self.folder.join("data/postmaster.pid"))?;
        text.lines().next().and_then(|line| line.parse().ok()).ok_or_else(|| Error::other("no process id"))
    }

    /// Stops the server and all its children where they are: it neither answers nor refuses.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets them go on.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    /// Sends a signal to the server and to the children that answer the queries.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        let parent = self.pid()?.to_string();
        let children = Command::new("pgrep").args(["-P", &parent]).output()?.stdout;
        let pids = format!("{parent}\n{}", String::from_utf8_lossy(&children));
        Command::new("kill").arg(signal).args(pids.split_whitespace()).output().map(drop)
    }

    fn wait_until_ready(&mut self, programs: &Path) -> io::Result<()> {
        let started = Instant::now();
        while !Command::new(programs.join("pg_isready"))
            .arg("-h")
            .arg(&self.folder)
            .stdout(Stdio::null())
            .status()?
            .success()
        {
            if started.elapsed() > Duration::from_secs(60) || self.keeper.try_wait()?.is_some() {
                let log = fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
                return Err(Error::other(format!("PostgreSQL did not start: {log}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // A paused server could not end.
        let _ = self.resume();
        drop(self.input.take());
        let _ = self.keeper.wait();
    }
}

/// The newest installed PostgreSQL's programs.
fn find_programs() -> io::Result<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    installed
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("initdb").exists())
        .max()
        .map(|(_, programs)| programs)
        .ok_or_else(|| {
            Error::other(
                "these tests need PostgreSQL 15 or later in /usr/lib/postgresql: `apt-get install postgresql`, \
                 or set WEIR_TEST_POSTGRES_URL to a server where they may create databases",
            )
        })
}

/// The server refuses to run as root, so root becomes the user of Debian's package.
fn as_postgres(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

fn run(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}
