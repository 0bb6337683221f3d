//! What goes wrong in real life, and how the sound comes back by itself: never stale, never with a
//! pop. The machines are network namespaces.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use velin::audio::{Clip, Comparison, compare, melody};
use velin::launch::{RATE, Receiver, SOON, alone, first_sound, framed};
use velin::machines::Machines;
use velin::net::{self, Side};
use velin::proc::Process;
use velin::skipped;

/// By how much the sound may come earlier or later after an outage than before it.
const SHIFT: f64 = 0.04;

#[test]
fn a_receiver_that_is_killed_and_restarted_plays_on_within_two_seconds() {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(secs(9));
    let mut first = scene.machines.receiver().unwrap();
    let sender = scene.sender();
    assert!(first.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    pass(secs(2));
    let before = first.began();
    first.process().signal(Signal::KILL);
    first.process().wait(SOON).unwrap();
    let heard_before = first.heard();
    drop(first);
    // Long enough for a first attempt in vain.
    pass(Duration::from_millis(500));

    let second = scene.machines.receiver().unwrap();
    let restarted = Instant::now();
    let sound = second.wait_for_sound(0, SOON);
    let took = restarted.elapsed();
    println!("sound {took:?} after the restart");
    let said = format!("{}\n{}", sender.output(), second.output());
    assert!(sound.is_some() && took < secs(2), "{took:?}\n{said}");
    pass(secs(2));
    let after = second.began();
    let heard_after = second.heard();

    // In the time of the wall, the tune goes on where it would be without the outage.
    let started = |heard: &Clip, began: Instant| {
        let result = compare(&scene.tune, heard).unwrap();
        println!("{result}");
        assert!(result.correlation > 0.98, "{result}\n{said}");
        began + secs(100) - Duration::from_secs_f64(100.0 - result.offset)
    };
    let (one, other) = (started(&heard_before, before), started(&heard_after, after));
    let shift = if one > other { one - other } else { other - one };
    println!("shift {shift:?}");
    assert!(shift.as_secs_f64() < SHIFT, "stale by {shift:?}\n{said}");
    scene.assert_no_pop(&heard_after);
}

#[test]
fn sound_returns_after_five_seconds_without_a_network() {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(secs(14));
    let receiver = scene.machines.receiver().unwrap();
    let sender = scene.sender();
    assert!(receiver.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    pass(secs(2));
    let out = receiver.frames();
    scene.machines.net.unplug(Side::A).unwrap();
    pass(secs(5));
    let back = receiver.frames();
    scene.machines.net.plug(Side::A).unwrap();
    scene.assert_returns(&receiver, &sender, out, back, secs(2));
}

#[test]
fn sound_returns_after_the_sender_got_another_address() {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(secs(14));
    let receiver = scene.machines.receiver().unwrap();
    let sender = scene.sender();
    assert!(receiver.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    pass(secs(2));
    let now = receiver.frames();
    scene.machines.net.readdress(Side::A, Ipv4Addr::new(192, 0, 2, 77)).unwrap();
    scene.assert_returns(&receiver, &sender, now, now, secs(8));
}

/// A tune that goes from A to B.
struct Scene {
    machines: Machines,
    tune: Clip,
}

impl Scene {
    fn new(length: Duration) -> Self {
        Self { machines: Machines::friends().unwrap(), tune: melody(RATE, 2, length) }
    }

    fn sender(&self) -> Process {
        let clip = framed(&self.tune, Duration::from_millis(800), Duration::from_millis(300));
        let wav = self.machines.wav(&clip);
        self.machines.sender(&wav, &format!("host={}", Side::B.ipv4())).unwrap()
    }

    /// The way was cut at frame `out` of the recording and open again at `back`: the sound returns
    /// within `limit` and goes on in step with what was heard before.
    fn assert_returns(
        &self,
        receiver: &Receiver,
        sender: &Process,
        out: usize,
        back: usize,
        limit: Duration,
    ) {
        // A quarter second is more than was on its way.
        let (settled, margin) = (back.max(out + RATE as usize / 4), RATE as usize / 2);
        let sound = receiver.wait_for_sound(settled, SOON);
        pass(secs(3));
        let said = format!("{}\n{}", sender.output(), receiver.output());
        let Some(sound) = sound else { panic!("no sound came back:\n{said}") };
        let heard = receiver.heard();
        let took = frames(sound.saturating_sub(back));
        // What was on its way is over soon, and then there is nothing, least of all something old.
        let ended = out + RATE as usize / 2;
        let stale = first_sound(&self.cut(&heard, 0, back.max(ended)), ended);
        assert_eq!(stale.map(frames), None, "sound without a network:\n{said}");
        println!("sound {took:?} after the way was open");

        let before = compare(&self.tune, &self.cut(&heard, 0, out.saturating_sub(margin))).unwrap();
        let after = compare(&self.tune, &self.cut(&heard, sound, heard.frames())).unwrap();
        println!("before:\n{before}\nafter:\n{after}");
        let whole = |result: &Comparison| result.correlation > 0.98;
        assert!(whole(&before) && whole(&after), "{before}\n{after}\n{said}");
        let shift = (before.offset - after.offset).abs();
        assert!(shift < SHIFT, "{before}\n{after}\n{said}");
        assert!(took < limit, "{took:?}\n{said}");
        self.assert_no_pop(&heard);
    }

    /// `heard` with silence in place of everything outside of `from..to`, so that offsets stay.
    fn cut(&self, heard: &Clip, from: usize, to: usize) -> Clip {
        let mut cut = heard.clone();
        cut.samples[..from * 2].fill(0.0);
        cut.samples[to * 2..].fill(0.0);
        cut
    }

    /// No step between neighbouring samples that the tune does not have itself.
    #[track_caller]
    fn assert_no_pop(&self, heard: &Clip) {
        let (own, (worst, at)) = (sharpest(&self.tune).0, sharpest(heard));
        println!("sharpest bend {worst:.4}, the tune's own {own:.4}");
        assert!(worst < 1.5 * own + 0.01, "a pop of {worst} at {:?}", frames(at));
    }
}

/// The greatest second difference and its frame: a cut within a tone makes a large one.
fn sharpest(clip: &Clip) -> (f32, usize) {
    let mut worst = (0.0, 0);
    for channel in 0..clip.channels {
        let signal: Vec<f32> = clip.channel(channel).collect();
        for (i, w) in signal.windows(3).enumerate() {
            let bend = (w[0] - 2.0 * w[1] + w[2]).abs();
            if bend > worst.0 {
                worst = (bend, i);
            }
        }
    }
    worst
}

#[test]
fn a_cut_within_the_tune_counts_as_a_pop() {
    let tune = melody(RATE, 2, secs(2));
    let own = sharpest(&tune).0;
    // Most cuts are heard; some fall near a zero crossing.
    let heard = (20_000..21_000).step_by(10).filter(|cut| {
        let mut broken = tune.clone();
        broken.samples[cut * 2..].fill(0.0);
        sharpest(&broken).0 >= 1.5 * own + 0.01
    });
    let share = heard.count();
    assert!(share > 50, "only {share} of 100 cuts are found");
}

/// Lets real time pass: what is under test is what happens meanwhile.
fn pass(time: Duration) {
    std::thread::sleep(time);
}

fn frames(count: usize) -> Duration {
    Duration::from_secs_f64(count as f64 / f64::from(RATE))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
