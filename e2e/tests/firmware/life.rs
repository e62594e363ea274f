//! The whole life of design §5, from first boot to the second owner.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::emulator::{self, Board};
use mqtt_wire::QoS;
use testkit::mqtt::{Client, Options};
use testkit::owner::Consent;
use testkit::stack::Stack;

use crate::{claim, measured, program};

const DAY: i64 = 24 * 60 * 60;

async fn reads(app: &mut Client, value: &str) -> anyhow::Result<()> {
    loop {
        let message = app.message().await?;
        // What is retained may come first.
        if message.text() == value {
            ensure!(message.topic.ends_with("/temperature"), "{}", message.topic);
            return Ok(());
        }
    }
}

/// A port that nobody listens on.
fn unused_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_device() -> anyhow::Result<()> {
    let Some(program) = program("thermostat") else { return Ok(()) };
    let stack = Stack::start().await?;
    let (ann, bob) = (stack.owner("ann")?, stack.owner("bob")?);
    let device = stack.device().await?;
    let mut board = Board::new(&program, &emulator::record(&device)?)?;

    // First boot: it finds the DIdP and waits. Unpressed it offers nothing.
    board.switch_on()?;
    board.hear("phase ready").await?;
    ensure!(!ann.type_code(&device.user_registration_uri, "0000").await?.has("decision"));

    claim(&mut board, &ann, &device.user_registration_uri, "Kitchen").await?;
    ensure!(ann.owns("Kitchen").await?);

    // Readings arrive at an app, a command switches the pin.
    let app = stack.app("Heating Diary").await?;
    let allowed = stack.allowed(&ann, &app, &Consent::default()).await?;
    let handle = e2e::handle(&stack, &allowed).await?;
    let mut diary = Options::new(&stack.mqtt()).bearer(&allowed.access_token).connect().await?;
    ensure!(diary.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    board.say("publish temperature 21.5").await?;
    reads(&mut diary, "21.5").await?;
    diary.publish(&format!("c/{handle}/heater"), "true", QoS::AtLeastOnce).await?;
    board.hear("pin on").await?;

    // A power cut, and a DIdP that is not there for it when the power comes back: the stored token still serves.
    board.cut_power().await?;
    let (before, flash) = (board.record()?, board.flash()?);
    let mut cut_off = before.clone();
    cut_off.didp.port = unused_port()?;
    board.flash_record(&cut_off)?;
    board.switch_on()?;
    board.hear("phase running").await?;
    board.say("keep temperature 21.6").await?;
    board.hear("delivered").await?;
    reads(&mut diary, "21.6").await?;
    let gateway = stack.deployment().ports.ignite_mqtts;
    ensure!(board.wire()?.iter().all(|segment| segment.port == gateway), "it called somebody else");
    ensure!(board.record()? == cut_off, "it wrote to its flash");
    board.cut_power().await?;
    board.set_flash(&flash)?;

    // The token ends while the device is off.
    stack.clock.advance(DAY + 1);
    board.switch_on()?;
    board.hear("phase renewing").await?;
    board.hear("phase running").await?;
    let renewed = board.record()?;
    ensure!(
        renewed
            .grant()
            .is_some_and(|grant| before.grant().is_some_and(|old| old.access_token != grant.access_token))
    );

    // The token nears its end while the device runs.
    stack.clock.advance(DAY * 20 / 24);
    board.say(&format!("clock {}", DAY * 20 / 24 * 1000)).await?;
    board.hear("phase renewing").await?;
    board.hear("phase running").await?;
    let allowed =
        app.refresh(&allowed.refresh_token).await?.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    let mut diary = Options::new(&stack.mqtt()).bearer(&allowed.access_token).connect().await?;
    ensure!(diary.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    board.say("publish temperature 21.7").await?;
    reads(&mut diary, "21.7").await?;

    // The owner releases it: the gateway ends its session, the DIdP its tokens.
    ann.release("Kitchen").await?;
    board.hear("phase ready released").await?;
    ensure!(board.record()?.grant().is_none(), "tokens are left in the flash");

    // The printed code can be claimed again; a long press gives it up, and the next owner takes it.
    claim(&mut board, &ann, &device.user_registration_uri, "Kitchen again").await?;
    board.hold().await?;
    board.hear("phase resetting").await?;
    board.hear("phase ready").await?;
    ensure!(!ann.owns("Kitchen again").await?);
    claim(&mut board, &bob, &device.user_registration_uri, "Garage").await?;
    ensure!(bob.owns("Garage").await?);
    ensure!(
        diary.message_within(Duration::from_millis(200)).await?.is_none(),
        "ann's app hears bob's device"
    );

    board.say("stop").await?;
    let left = emulator::Counters::read(&board.hear("stat ").await?).context("counters")?;
    ensure!(board.ended().await? == 0);
    measured("untouched", left.untouched)?;
    stack.stop().await
}

/// Seconds that the paper lets its device run for.
const QUARTER_OF_AN_HOUR: u64 = 15 * 60;

/// What `docs/device.md` says of memory was measured so. The board's clock is put forward second by second, and each second has its
/// reading and its acknowledgement, some a ping: what is left out is the sleep between them.
#[tokio::test(flavor = "multi_thread")]
async fn a_quarter_of_an_hour_of_readings_with_a_renewal() -> anyhow::Result<()> {
    let Some(program) = program("thermostat") else { return Ok(()) };
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let device = stack.device().await?;
    let mut board = Board::new(&program, &emulator::record(&device)?)?;
    board.switch_on()?;
    board.hear("phase ready").await?;
    claim(&mut board, &ann, &device.user_registration_uri, "Kitchen").await?;
    let before = board.counters().await?;
    for second in 0..QUARTER_OF_AN_HOUR {
        board.say("clock 1000").await?;
        board.hear("clock").await?;
        board.say(&format!("keep temperature {}", second % 40)).await?;
        board.hear("delivered").await?;
        if second == QUARTER_OF_AN_HOUR / 2 {
            stack.clock.advance(DAY * 20 / 24);
            board.say(&format!("clock {}", DAY * 20 / 24 * 1000)).await?;
            board.hear("phase renewing").await?;
            board.hear("phase running").await?;
        }
    }
    let counters = board.counters().await?;
    let passed = (counters.ms - before.ms) / 1000 - DAY as u64 * 20 / 24;
    ensure!(passed >= QUARTER_OF_AN_HOUR, "only {passed} s have passed");
    let sessions = board.heard().iter().filter(|line| line.starts_with("phase running")).count();
    ensure!(sessions == 2, "not one renewal and nothing else: {:?}", board.heard());
    measured("untouched", counters.untouched)?;
    stack.stop().await
}
