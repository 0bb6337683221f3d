use std::sync::mpsc::{Receiver, channel};

use velin_core::identity::{Identity, TrustedPeer, Via};

use super::*;

const NOW: WallTime = WallTime::from_unix(1_795_164_000);

/// Longer than any machine takes; ends as soon as what is awaited happens.
const LONG: Duration = Duration::from_secs(20);

fn peer(seed: u8) -> TrustedPeer {
    TrustedPeer {
        key: Identity::from_secret([seed; 32]).public(),
        name: Some(format!("peer {seed}").parse().unwrap()),
        may: Grants::PLAY_TO_ME,
        via: Via::File,
        added: None,
        host: None,
        expires: None,
    }
}

struct House {
    _dir: tempfile::TempDir,
    path: PathBuf,
    source: Arc<TrustSource>,
    news: Receiver<TrustNews>,
    subscription: Option<Subscription>,
}

impl House {
    fn of(peers: &[TrustedPeer]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.toml");
        change(&path, |book| peers.iter().for_each(|p| book.add(p.clone()).unwrap()));
        let source = Arc::new(TrustSource::load(Some(&path)).unwrap());
        assert!(source.look(NOW).is_none());
        let (sender, news) = channel();
        let subscription = source.subscribe(move |news| sender.send(news.clone()).unwrap());
        Self { _dir: dir, path, source, news, subscription: Some(subscription) }
    }

    fn change(&self, f: impl FnOnce(&mut TrustBook)) {
        change(&self.path, f);
    }

    /// Looks at `now`; gives what was told.
    fn look(&self, now: WallTime) -> Vec<TrustNews> {
        self.source.look(now);
        self.news.try_iter().collect()
    }
}

fn change(path: &Path, f: impl FnOnce(&mut TrustBook)) {
    trust_file::update::<_, TrustFileError>(Some(path), |book| {
        f(book);
        Ok(())
    })
    .unwrap();
}

fn later(seconds: u64) -> WallTime {
    NOW + Duration::from_secs(seconds)
}

#[test]
fn nothing_is_told_while_nothing_changes() {
    let house = House::of(&[peer(1)]);
    assert_eq!(house.look(NOW), []);
    assert_eq!(house.look(later(1_000_000)), []);
    house.change(|_| ());
    assert_eq!(house.look(NOW), [], "the same book in another file");
}

#[test]
fn an_entry_that_comes_goes_or_changes_is_told_once() {
    let house = House::of(&[peer(1)]);
    let changes: [fn(&mut TrustBook); 4] = [
        |book| book.add(peer(2)).unwrap(),
        |book| {
            let wider = TrustedPeer { may: Grants::ALL, ..peer(2) };
            book.update(wider).unwrap();
        },
        |book| {
            book.update(TrustedPeer { may: Grants::NONE, ..peer(2) }).unwrap();
        },
        |book| {
            book.remove(&peer(2).key).unwrap();
        },
    ];
    let grants = [Some(Grants::PLAY_TO_ME), Some(Grants::ALL), Some(Grants::NONE), None];
    for (change, grants) in changes.into_iter().zip(grants) {
        house.change(change);
        assert_eq!(house.look(NOW), [TrustNews::Changed]);
        assert_eq!(house.look(NOW), []);
        assert_eq!(house.source.grants(&peer(2).key), grants);
    }
    assert_eq!(house.source.grants(&peer(1).key), Some(Grants::PLAY_TO_ME));
}

#[test]
fn an_entry_that_expires_is_told_once_and_so_is_its_renewal() {
    let guest = TrustedPeer { expires: Some(later(100)), ..peer(1) };
    let house = House::of(&[guest.clone(), peer(2)]);
    assert_eq!(house.look(later(99)), []);
    assert_eq!(house.source.expired_at(&guest.key, later(99)), None);
    assert_eq!(house.look(later(100)), [TrustNews::Changed]);
    assert_eq!(house.look(later(101)), []);
    let expired = house.source.expired_at(&guest.key, later(101)).unwrap().to_string();
    assert!(expired.contains("expired on 2026-11-20T08:41:40Z"), "{expired}");
    assert!(expired.contains("velin-pipe trust add age1"), "{expired}");
    let name = store::quoted(Path::new("peer 1"));
    let file = store::quoted(&house.path);
    let rest = format!("--name {name} --expires 30d --trust-file {file}");
    assert!(expired.contains(&rest), "{expired}");
    house.change(|book| {
        book.update(TrustedPeer { expires: Some(later(1000)), ..peer(1) }).unwrap();
    });
    assert_eq!(house.look(later(102)), [TrustNews::Changed]);
    assert_eq!(house.source.expired_at(&guest.key, later(102)), None);
    assert_eq!(house.source.expired_at(&peer(3).key, NOW), None, "a stranger never was trusted");
}

#[test]
fn a_change_and_an_expiry_at_once_are_one_call() {
    let house = House::of(&[TrustedPeer { expires: Some(later(100)), ..peer(1) }]);
    house.change(|book| book.add(peer(2)).unwrap());
    assert_eq!(house.look(later(100)), [TrustNews::Changed]);
}

#[test]
fn a_broken_file_is_told_once_per_change_and_the_last_good_book_stays() {
    let house = House::of(&[peer(1)]);
    let write = |text: &str| std::fs::write(&house.path, text).unwrap();
    let good = std::fs::read_to_string(&house.path).unwrap();
    write("version = 1\n[[peer]]\nname = 7\n");
    let told = house.look(NOW);
    assert!(
        matches!(&told[..], [TrustNews::Unreadable(text)] if text.contains("line 3")),
        "{told:?}"
    );
    assert_eq!(house.look(NOW), []);
    assert!(house.source.look(NOW).is_none(), "told already");
    write("version = 1\n\n[[peer]]\nname = 7\n");
    assert!(matches!(house.look(NOW)[..], [TrustNews::Unreadable(_)]));
    assert_eq!(house.source.grants(&peer(1).key), Some(Grants::PLAY_TO_ME));
    std::fs::remove_file(&house.path).unwrap();
    assert!(
        matches!(&house.look(NOW)[..], [TrustNews::Unreadable(t)] if t.contains("no trust file"))
    );
    assert_eq!(house.source.grants(&peer(1).key), Some(Grants::PLAY_TO_ME));
    strict_write(&house.path, &good);
    assert_eq!(house.look(NOW), [], "the old book again");
    house.change(|book| book.add(peer(2)).unwrap());
    assert_eq!(house.look(NOW), [TrustNews::Changed]);
}

/// Whatever the umask is.
fn strict_write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn who_expires_while_the_file_is_broken_is_told_too() {
    let house = House::of(&[TrustedPeer { expires: Some(later(100)), ..peer(1) }]);
    std::fs::write(&house.path, "version = 9\n").unwrap();
    let told = house.look(later(100));
    assert!(matches!(told[..], [TrustNews::Unreadable(_), TrustNews::Changed]), "{told:?}");
}

#[test]
fn a_dropped_subscription_hears_nothing() {
    let mut house = House::of(&[peer(1)]);
    house.subscription = None;
    house.change(|book| book.add(peer(2)).unwrap());
    assert_eq!(house.look(NOW), []);
    assert!(lock(&house.source.subscribers).each.is_empty());
}

#[test]
fn subscribers_may_ask_subscribe_and_leave_while_they_are_called() {
    let house = House::of(&[peer(1)]);
    let source = Arc::downgrade(&house.source);
    let own: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let slot = own.clone();
    let (sender, heard) = channel();
    *lock(&own) = Some(house.source.subscribe(move |_| {
        let source = source.upgrade().unwrap();
        drop(source.subscribe(|_| ()));
        drop(lock(&slot).take());
        sender.send(source.grants(&peer(2).key)).unwrap();
    }));
    house.change(|book| book.add(peer(2)).unwrap());
    house.look(NOW);
    house.change(|book| book.add(peer(3)).unwrap());
    house.look(NOW);
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [Some(Grants::PLAY_TO_ME)]);
}

#[test]
fn a_watched_file_is_followed_until_nobody_holds_the_source() {
    let house = House::of(&[peer(1)]);
    house.source.watch().unwrap();
    house.source.watch().unwrap();
    house.change(|book| {
        book.remove(&peer(1).key).unwrap();
    });
    assert_eq!(house.news.recv_timeout(LONG), Ok(TrustNews::Changed));
    assert_eq!(house.source.grants(&peer(1).key), None);
    let House { source, subscription, news, .. } = house;
    drop((source, subscription));
    // The subscriber goes with the source, however long a look that is under way takes.
    assert!(
        news.recv_timeout(LONG)
            .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}

#[test]
fn before_a_handshake_the_newest_file_is_in_force() {
    let house = House::of(&[]);
    let source = house.source.clone();
    for seed in 1..6 {
        house.change(|book| book.add(peer(seed)).unwrap());
        let source = source.clone();
        let (sender, done) = channel();
        runtime::handle().unwrap().spawn(async move {
            // Many handshakes at once share looks; each sees what was written before it asked.
            let all: Vec<_> = (0..32)
                .map(|_| {
                    let source = source.clone();
                    tokio::spawn(async move {
                        source.look_aside().await;
                        source.grants(&peer(seed).key)
                    })
                })
                .collect();
            for each in all {
                sender.send(each.await.unwrap()).unwrap();
            }
        });
        for _ in 0..32 {
            assert_eq!(done.recv_timeout(LONG), Ok(Some(Grants::PLAY_TO_ME)));
        }
    }
    assert_eq!(house.news.try_iter().count(), 5);
}

#[test]
fn a_handshake_does_not_wait_for_a_disk_that_hangs() {
    let house = House::of(&[peer(1)]);
    let hung = house.source.turn.clone().try_lock_owned().unwrap();
    let source = house.source.clone();
    let (sender, done) = channel();
    runtime::handle().unwrap().spawn(async move {
        source.refreshed().await;
        sender.send(source.grants(&peer(1).key)).unwrap();
    });
    assert_eq!(done.recv_timeout(LONG), Ok(Some(Grants::PLAY_TO_ME)));
    drop(hung);
}
