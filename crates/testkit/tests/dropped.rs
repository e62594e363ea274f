//! A test that fails drops its stack wherever it is. It has to fail then, and not to hang.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::bail;
use testkit::stack::Stack;
use tokio::runtime::Builder;

const PATIENCE: Duration = Duration::from_secs(60);

/// How far such a test gets.
#[derive(Debug, Clone, Copy)]
enum Until {
    Started,
    Claimed,
    Asking,
}

async fn fails(until: Until) -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    match until {
        Until::Started => {}
        Until::Claimed => drop(stack.claimed(&stack.owner("ann")?, "Kitchen").await?),
        Until::Asking => {
            // Requests under way at each part, which nobody waits for.
            for number in 0..20 {
                let (ann, device) = (stack.owner("ann")?, stack.device().await?);
                tokio::spawn(async move {
                    let name = format!("Kitchen {number}");
                    testkit::stack::claim(&ann, &device, &name).await
                });
            }
        }
    }
    bail!("on purpose")
}

/// Whatever panics while its stack is taken away ends by luck.
static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_test_that_fails_ends() -> anyhow::Result<()> {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        shown(panic);
    }));
    for until in [Until::Started, Until::Claimed, Until::Asking] {
        for threads in [1, 2] {
            let (ended, end) = mpsc::channel();
            std::thread::spawn(move || {
                let mut builder =
                    if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
                let outcome = builder
                    .enable_all()
                    .build()
                    .map_err(Into::into)
                    .and_then(|runtime| runtime.block_on(fails(until)));
                ended.send(outcome)
            });
            match end.recv_timeout(PATIENCE) {
                Ok(Err(error)) if error.to_string() == "on purpose" => {}
                Ok(other) => bail!("{until:?}, {threads} threads: {other:?}"),
                Err(_) => bail!("{until:?}, {threads} threads: it hangs"),
            }
        }
    }
    anyhow::ensure!(PANICS.load(Ordering::Relaxed) == 0, "a part panicked");
    Ok(())
}
