//! When clients are told that the event log is away.

/// Whether clients were told of an outage, and since when there may be one.
#[derive(Default)]
pub(crate) struct Outage {
    /// Looks in a row that found the log away.
    missed: u32,
    told: bool,
}

/// A reconnect takes less than that many looks, and nobody needs to hear of it.
const LOOKS: u32 = 2;

impl Outage {
    /// Takes in a look; what clients are to be told now, if anything.
    pub(crate) fn see(&mut self, reachable: bool) -> Option<bool> {
        self.missed = if reachable { 0 } else { self.missed.saturating_add(1) };
        let tell = match (self.told, reachable) {
            (false, false) => self.missed >= LOOKS,
            (told, reachable) => told && reachable,
        };
        tell.then(|| {
            self.told = !reachable;
            reachable
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_once_of_what_lasts_and_once_of_its_end() {
        let mut outage = Outage::default();
        let looks = [true, false, true, false, false, false, true, true, false, false];
        let told: Vec<_> = looks.map(|look| outage.see(look)).into_iter().collect();
        let expected = [None, None, None, None, Some(false), None, Some(true), None, None, Some(false)];
        assert_eq!(told, expected);
    }
}
