//! The same work for many things, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// How many threads `each` uses for so many things.
pub(crate) fn workers(things: usize) -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(things)
}

/// Calls `work` with a worker's number and a thing's, in the order of the things, until one fails or `stop` is set (by anyone).
/// Returns the results by the things' numbers, or the first error; fewer results than things mean that it was stopped.
pub(crate) fn each<T: Send, E: Send>(
    things: usize,
    stop: &AtomicBool,
    work: impl Fn(usize, usize) -> Result<T, E> + Sync,
) -> Result<Vec<(usize, T)>, E> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let outcome = Mutex::new(Ok(Vec::with_capacity(things)));
    let run = |worker: usize| {
        while !stop.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
            let thing = next.fetch_add(1, Ordering::Relaxed);
            if thing >= things {
                break;
            }
            let result = work(worker, thing);
            let mut outcome = outcome.lock().expect("no thread panics while it records");
            match (&mut *outcome, result) {
                (Ok(results), Ok(result)) => results.push((thing, result)),
                // The first one; the others follow from it.
                (Ok(_), Err(error)) => {
                    failed.store(true, Ordering::Relaxed);
                    *outcome = Err(error);
                }
                (Err(_), _) => {}
            }
        }
    };
    thread::scope(|scope| {
        for worker in 0..workers(things) {
            let run = &run;
            scope.spawn(move || run(worker));
        }
    });
    let mut results = outcome.into_inner().expect("no thread panics while it records")?;
    results.sort_by_key(|(thing, _)| *thing);
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_once_and_nothing_after_a_failure_or_a_stop() {
        let stop = AtomicBool::new(false);
        let doubled = each::<_, ()>(100, &stop, |_, thing| Ok(thing * 2)).unwrap();
        assert_eq!(doubled, (0..100).map(|thing| (thing, thing * 2)).collect::<Vec<_>>());
        assert_eq!(each(100, &stop, |_, thing| if thing == 3 { Err("three") } else { Ok(()) }), Err("three"));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(each::<(), ()>(100, &stop, |_, _| Ok(())), Ok(Vec::new()));
    }
}
