//! The source as a whole, on real files that really change.

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{super::Phase, *};
use crate::{
    model::{EndpointSlice, ObjectName},
    source::Source,
    store::Store,
    synthetic,
};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    store: Store,
    events: mpsc::Receiver<Vec<Event>>,
    state: state_watch::Receiver<SourceState>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), SourceError>>,
}

/// Runs the source on `path` until it has listed everything.
async fn start(path: &Path) -> Running {
    let (sender, events) = mpsc::channel(4);
    let (publish, state) = state_watch::channel(SourceState::default());
    let stop = CancellationToken::new();
    let source = Source::Files(FilesSource::new(path, "node-1").unwrap());
    let task = tokio::spawn(source.run(sender, publish, stop.clone()));
    let mut running = Running {
        store: Store::new(),
        events,
        state,
        stop,
        task,
    };
    while !running.store.synced() {
        running.take_in().await;
    }
    running
}

impl Running {
    async fn take_in(&mut self) {
        let batch = timeout(PATIENCE, self.events.recv())
            .await
            .expect("no event");
        for event in batch.expect("the source has ended") {
            self.store.apply(event);
        }
    }

    /// Follows until the ClusterIPs of all Services, by name, are these.
    async fn until(&mut self, expected: &[(&str, &str)]) {
        while self.services() != addresses(expected) {
            self.take_in().await;
        }
    }

    fn services(&self) -> Vec<(&str, String)> {
        let services = self.store.services();
        let mut services: Vec<_> = services
            .map(|(name, service)| (&*name.name, service.cluster_ips[0].to_string()))
            .collect();
        services.sort_unstable();
        services
    }

    async fn until_phase(&mut self, phase: Phase) {
        let reached = self.state.wait_for(|state| state.phase == phase);
        timeout(PATIENCE, reached)
            .await
            .expect("phase not reached")
            .unwrap();
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

fn addresses<'a>(services: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    services
        .iter()
        .map(|(name, ip)| (*name, (*ip).to_owned()))
        .collect()
}

async fn start_error(path: &Path) -> String {
    let source = match FilesSource::new(path, "node-1") {
        Ok(source) => source,
        Err(error) => return error.to_string(),
    };
    let (sender, mut events) = mpsc::channel(4);
    let (publish, _state) = state_watch::channel(SourceState::default());
    let run = tokio::spawn(Source::Files(source).run(sender, publish, CancellationToken::new()));
    while events.recv().await.is_some() {}
    run.await.unwrap().unwrap_err().to_string()
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {ip}}}\n---\n"
    )
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write(&directory, name, text);
    }
    directory
}

fn write(directory: &TempDir, name: &str, text: &str) {
    let path = directory.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[tokio::test]
async fn every_manifest_below_a_directory_is_read() {
    let files = directory(&[
        ("a.yaml", &service("a", "10.0.0.1")),
        ("deep/er/b.yml", &service("b", "10.0.0.2")),
        ("README.md", "# not a manifest"),
        (".hidden.yaml", "not: [a manifest"),
        (".git/c.yaml", "not: [a manifest"),
    ]);
    let running = start(files.path()).await;
    assert_eq!(
        running.services(),
        addresses(&[("a", "10.0.0.1"), ("b", "10.0.0.2")])
    );
    running.stop().await;
}

#[tokio::test]
async fn changes_additions_and_removals_are_followed() {
    let files = directory(&[("a.yaml", &service("a", "10.0.0.1"))]);
    let mut running = start(files.path()).await;
    write(
        &files,
        "a.yaml",
        &(service("a", "10.0.0.9") + &service("aa", "10.0.0.8")),
    );
    running
        .until(&[("a", "10.0.0.9"), ("aa", "10.0.0.8")])
        .await;
    write(&files, "new/b.yaml", &service("b", "10.0.0.2"));
    running
        .until(&[("a", "10.0.0.9"), ("aa", "10.0.0.8"), ("b", "10.0.0.2")])
        .await;
    fs::remove_file(files.path().join("a.yaml")).unwrap();
    running.until(&[("b", "10.0.0.2")]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_another_is_renamed_over_is_read_again() {
    let files = directory(&[("a.yaml", &service("a", "10.0.0.1"))]);
    let path = files.path().join("a.yaml");
    let mut running = start(&path).await;
    for ip in ["10.0.0.2", "10.0.0.3"] {
        write(&files, "a.yaml.tmp", &service("a", ip));
        fs::rename(files.path().join("a.yaml.tmp"), &path).unwrap();
        running.until(&[("a", ip)]).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_config_map_volume_is_followed() {
    use std::os::unix::fs::symlink;
    let files = directory(&[
        ("..v1/a.yaml", &service("a", "10.0.0.1")),
        ("..v2/a.yaml", &service("a", "10.0.0.2")),
    ]);
    let at = |name: &str| files.path().join(name);
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut running = start(files.path()).await;
    assert_eq!(running.services(), addresses(&[("a", "10.0.0.1")]));
    symlink("..v2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    running.until(&[("a", "10.0.0.2")]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_turns_bad_or_empty_keeps_its_last_good_version() {
    let files = directory(&[
        ("a.yaml", &service("a", "10.0.0.1")),
        ("b.yaml", &service("b", "10.0.0.2")),
    ]);
    let mut running = start(files.path()).await;
    running.until_phase(Phase::Following).await;
    for bad in ["kind: [", ""] {
        write(&files, "a.yaml", bad);
        running.until_phase(Phase::Interrupted).await;
        // Other files are followed all the same.
        write(&files, "b.yaml", &service("b", "10.0.0.3"));
        running.until(&[("a", "10.0.0.1"), ("b", "10.0.0.3")]).await;
        write(&files, "a.yaml", &service("a", "10.0.0.1"));
        running.until_phase(Phase::Following).await;
        write(&files, "b.yaml", &service("b", "10.0.0.2"));
        running.until(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]).await;
    }
    let state = running.state.borrow().clone();
    assert!(state.failures >= 2, "{state:?}");
    assert!(state.last_failure.unwrap().contains("the file is empty"));
    running.stop().await;
}

#[tokio::test]
async fn of_two_definitions_the_last_by_path_counts_whatever_changes() {
    let files = directory(&[
        ("1.yaml", &service("a", "10.0.0.1")),
        ("2.yaml", &service("a", "10.0.0.2")),
        ("marker.yaml", &service("m", "10.0.1.0")),
    ]);
    let mut running = start(files.path()).await;
    assert_eq!(
        running.services(),
        addresses(&[("a", "10.0.0.2"), ("m", "10.0.1.0")])
    );
    write(&files, "1.yaml", &service("a", "10.0.0.3"));
    write(&files, "marker.yaml", &service("m", "10.0.1.1"));
    running.until(&[("a", "10.0.0.2"), ("m", "10.0.1.1")]).await;
    fs::remove_file(files.path().join("2.yaml")).unwrap();
    running.until(&[("a", "10.0.0.3"), ("m", "10.0.1.1")]).await;
    running.stop().await;
}

/// A file and a directory that come and go, each at once, until this is dropped.
struct Churn(Arc<AtomicBool>, Option<thread::JoinHandle<()>>);

impl Churn {
    fn below(root: &Path) -> Self {
        let (going, root) = (Arc::new(AtomicBool::new(true)), root.to_owned());
        let goes_on = Arc::clone(&going);
        let outside = tempfile::tempdir().unwrap();
        let staged = ["lone.yaml", "many"].map(|name| outside.path().join(name));
        fs::write(&staged[0], service("churn", "10.0.0.9")).unwrap();
        fs::create_dir(&staged[1]).unwrap();
        for number in 0..20 {
            let file = staged[1].join(format!("{number}.yaml"));
            fs::write(file, service("churn", "10.0.0.9")).unwrap();
        }
        let work = move || {
            while goes_on.load(Ordering::Relaxed) {
                for staged in &staged {
                    let path = root.join(staged.file_name().unwrap());
                    fs::rename(staged, &path).unwrap();
                    thread::yield_now();
                    fs::rename(&path, staged).unwrap();
                }
            }
            drop(outside);
        };
        Self(going, Some(thread::spawn(work)))
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

#[test]
fn files_that_go_while_they_are_looked_at_are_no_failure() {
    let files = directory(&[("steady.yaml", &service("steady", "10.0.0.1"))]);
    let churn = Churn::below(files.path());
    for _ in 0..200 {
        let (sender, mut events) = mpsc::channel(4096);
        let mut loader = Loader::new(files.path().to_owned(), "node-1", sender);
        loader.load().unwrap();
        loader.refresh(&HashSet::new());
        assert_eq!(loader.take_failure(), None);
        let mut store = Store::new();
        while let Ok(batch) = events.try_recv() {
            for event in batch {
                store.apply(event);
            }
        }
        let names: Vec<_> = store.services().map(|s| &*s.0.name).collect();
        assert!(names.contains(&"steady"), "{names:?}");
    }
    drop(churn);
}

#[tokio::test]
async fn a_start_fails_with_one_sentence() {
    let files = directory(&[(
        "bad.yaml",
        &(service("a", "10.0.0.1") + "kind: Service\nspec: 7\n"),
    )]);
    let message = start_error(files.path()).await;
    let path = files.path().join("bad.yaml");
    assert_eq!(
        message,
        format!(
            "{}: document 2, line 5: Service default/(without a name): spec: \
             invalid type: integer `7`, expected ServiceSpec",
            path.display()
        )
    );
    fs::write(&path, b"kind: Service\nname: \xff\n").unwrap();
    let message = start_error(&path).await;
    assert_eq!(
        message,
        format!(
            "{}: document 1, line 2: this is not UTF-8 text",
            path.display()
        )
    );
    let missing = files.path().join("missing");
    let message = start_error(&missing).await;
    assert_eq!(
        message,
        format!(
            "cannot read {}: No such file or directory (os error 2)",
            missing.display()
        )
    );
}

#[tokio::test]
async fn a_dump_leads_to_the_same_store_as_the_events_of_its_cluster() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("dump.json");
    synthetic::objects_json(40, 12, fs::File::create(&path).unwrap()).unwrap();
    let running = start(&path).await;
    let mut expected = Store::new();
    for event in synthetic::events(40, 12) {
        expected.apply(event);
    }
    assert_eq!(running.store.services().len(), 40);
    for (name, service) in expected.services() {
        let same_but_local = |store: &Store, name: &ObjectName| -> Vec<EndpointSlice> {
            let mut slices: Vec<_> = store.slices_of(name).into_iter().cloned().collect();
            // `node-1` reads what `synthetic` makes for its own node.
            for endpoint in slices.iter_mut().flat_map(|slice| &mut slice.endpoints) {
                endpoint.local = false;
            }
            slices
        };
        assert_eq!(running.store.service(name), Some(service));
        assert_eq!(
            same_but_local(&running.store, name),
            same_but_local(&expected, name)
        );
    }
    running.stop().await;
}
