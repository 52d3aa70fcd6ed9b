// SPDX-License-Identifier: GPL-2.0

//! Waiting for what others do in their own time.

use std::time::Duration;
use std::time::Instant;

/// How long to wait for what somebody does in his own time, on a machine that has much else to do, before that has failed to
/// come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked for.
const INTERVAL: Duration = Duration::from_millis(50);

/// Waits until `condition` holds. An error when it does not within [`PATIENCE`], or fails.
pub fn wait_for(
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        anyhow::ensure!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}
