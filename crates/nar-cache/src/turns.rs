//! Whose turn it is to be sent much.
//!
//! A room that is switched on asks for the same hundreds of megabytes at once. Sent to all at the same time, everybody is done
//! when the last is; sent to a few at a time, in the order in which they came, half of the room works after half of the time, and
//! nobody later than otherwise. So a client takes a turn for what is large, and keeps it while it goes on asking: a closure is
//! many files. What is small never waits.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Who has a turn, and who waits for one. It reads no clock and sends nothing: it is told the time, and returns whom to admit.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    /// Clients that have a turn at once.
    clients: usize,
    /// Requests that may wait, boot loaders' not counted.
    most_waiting: usize,
    holders: HashMap<Ipv4Addr, Holder>,
    waiting: VecDeque<Waiting<T>>,
    next: u64,
}

/// Who asks, by what a refusal does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Firmware and boot loaders give up at once, so they wait, whoever else does.
    Loader,
    /// Nix and its like come again a few times, and wait while there is room.
    Program,
    /// Our agent comes again as long as it is told to. One of its requests waits, and hears when the turn has come.
    Agent,
}

/// What an admitted request holds.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    client: Ipv4Addr,
    turn: u64,
    moved: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Holder {
    turn: u64,
    /// Responses under way.
    streams: usize,
    /// Bytes that the network took, of all of them.
    moved: Arc<AtomicU64>,
    /// What `moved` was at `since`.
    seen: u64,
    /// When this stretch began, with or without streams.
    since: Instant,
    /// When the turn began.
    began: Instant,
}

#[derive(Debug)]
struct Waiting<T> {
    client: Ipv4Addr,
    ticket: T,
}

impl<T> Turns<T> {
    /// Large responses to one client at once. A few fill any card; Nix has 25 connections, and shall not have 25 shares.
    pub(crate) const STREAMS: usize = 4;
    /// How long a turn lasts after the last byte: the next request of the same client is on its way.
    pub(crate) const LINGER: Duration = Duration::from_millis(250);
    /// A client that takes less than [`Self::LEAST`] bytes in this time holds up the others: its turn ends, its responses go on.
    pub(crate) const STRETCH: Duration = Duration::from_secs(2);
    /// A share of 100 Mbit/s among the default number of clients, each with all its streams, is ten times this.
    pub(crate) const LEAST: u64 = 256 * 1024;
    /// The longest turn while others wait; what is under way goes on. At 1 Gbit/s each of eight clients gets 4 GB in it.
    pub(crate) const LONGEST: Duration = Duration::from_secs(300);
    /// Requests of one client that wait: twice as many as Nix' 25 connections ask for.
    pub(crate) const QUEUE_OF_ONE: usize = 50;

    /// Gives turns to so many clients at once, while so many requests may wait, at least one.
    pub(crate) fn new(clients: usize, most_waiting: usize) -> Self {
        Self { clients, most_waiting: most_waiting.max(1), holders: HashMap::new(), waiting: VecDeque::new(), next: 0 }
    }

    /// Whether somebody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A client asks. Its ticket comes out of [`Turns::settle`] when it is admitted; it comes back from here if too many wait
    /// already.
    pub(crate) fn ask(&mut self, client: Ipv4Addr, asker: Asker, ticket: T) -> Result<(), T> {
        if !self.fits(client) && !self.may_wait(client, asker) {
            return Err(ticket);
        }
        self.waiting.push_back(Waiting { client, ticket });
        Ok(())
    }

    /// Each that waits holds a connection, and those that do not wait shall find one, too.
    fn may_wait(&self, client: Ipv4Addr, asker: Asker) -> bool {
        let of_this_one = self.waiting.iter().filter(|waiting| waiting.client == client).count();
        let is_room = self.waiting.len() < self.most_waiting;
        match asker {
            Asker::Loader => of_this_one < Self::QUEUE_OF_ONE,
            Asker::Program => is_room && of_this_one < Self::QUEUE_OF_ONE,
            Asker::Agent => is_room && of_this_one == 0,
        }
    }

    /// Whether one more response to this client would begin at once.
    fn fits(&self, client: Ipv4Addr) -> bool {
        match self.holders.get(&client) {
            Some(holder) => holder.streams < Self::STREAMS,
            None => self.holders.len() < self.clients,
        }
    }

    /// Strikes out those whose client left while it waited; or who asks and leaves, again and again, has the whole queue.
    pub(crate) fn strike(&mut self, has_left: impl Fn(&T) -> bool) {
        self.waiting.retain(|waiting| !has_left(&waiting.ticket));
    }

    /// A response has ended, one way or another.
    pub(crate) fn leave(&mut self, now: Instant, place: &Place) {
        let Some(holder) = self.holders.get_mut(&place.client).filter(|holder| holder.turn == place.turn) else {
            return;
        };
        holder.streams -= 1;
        if holder.streams == 0 {
            holder.since = now;
        }
    }

    /// Ends the turns that are over, and returns who is admitted. To be called after each change, and from time to time while
    /// somebody waits.
    pub(crate) fn settle(&mut self, now: Instant) -> Vec<(T, Place)> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        self.holders.retain(|_, holder| holder.goes_on(now));
        let mut admitted = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if self.fits(waiting.client) {
                let place = self.admit(now, waiting.client);
                admitted.push((waiting.ticket, place));
            } else {
                self.waiting.push_back(waiting);
            }
        }
        admitted
    }

    fn admit(&mut self, now: Instant, client: Ipv4Addr) -> Place {
        let next = &mut self.next;
        let holder = self.holders.entry(client).or_insert_with(|| {
            *next += 1;
            Holder { turn: *next, streams: 0, moved: Arc::default(), seen: 0, since: now, began: now }
        });
        if holder.streams == 0 {
            (holder.seen, holder.since) = (holder.moved(), now);
        }
        holder.streams += 1;
        Place { client, turn: holder.turn, moved: Arc::clone(&holder.moved) }
    }
}

impl Holder {
    fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn goes_on(&mut self, now: Instant) -> bool {
        let lasted = now.saturating_duration_since(self.since);
        if self.streams == 0 {
            return lasted < Turns::<()>::LINGER;
        }
        if now.saturating_duration_since(self.began) >= Turns::<()>::LONGEST {
            return false;
        }
        if lasted < Turns::<()>::STRETCH {
            return true;
        }
        let moved = self.moved();
        let is_quick = moved - self.seen >= Turns::<()>::LEAST;
        (self.seen, self.since) = (moved, now);
        is_quick
    }
}

impl Place {
    /// The network took so many bytes.
    pub(crate) fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: usize = Turns::<()>::LEAST as usize;

    /// Tickets are the names of requests; time is milliseconds from the start.
    struct Room {
        turns: Turns<&'static str>,
        start: Instant,
        places: HashMap<&'static str, Place>,
    }

    impl Room {
        fn of(clients: usize) -> Self {
            Self { turns: Turns::new(clients, 100), start: Instant::now(), places: HashMap::new() }
        }

        fn at(&self, milliseconds: u64) -> Instant {
            self.start + Duration::from_millis(milliseconds)
        }

        /// A request of client `client`; who is admitted then.
        fn asks(&mut self, at: u64, client: u8, name: &'static str) -> Vec<&'static str> {
            let client = Ipv4Addr::new(10, 77, 0, client);
            self.turns.ask(client, Asker::Program, name).unwrap();
            self.settles(at)
        }

        fn ends(&mut self, at: u64, name: &'static str) -> Vec<&'static str> {
            let place = self.places.remove(name).unwrap();
            self.turns.leave(self.at(at), &place);
            self.settles(at)
        }

        fn settles(&mut self, at: u64) -> Vec<&'static str> {
            let admitted = self.turns.settle(self.at(at));
            let names = admitted.iter().map(|(name, _)| *name).collect();
            self.places.extend(admitted);
            names
        }
    }

    #[test]
    fn clients_take_turns_in_the_order_in_which_they_came() {
        let mut room = Room::of(2);
        assert_eq!(room.asks(0, 1, "a"), ["a"]);
        assert_eq!(room.asks(0, 2, "b"), ["b"]);
        assert!(room.asks(0, 3, "c").is_empty());
        assert!(room.asks(1, 4, "d").is_empty());
        assert!(room.ends(100, "b").is_empty(), "its next request may be on its way");
        assert!(room.settles(349).is_empty());
        assert_eq!(room.settles(350), ["c"]);
        assert!(room.ends(400, "a").is_empty());
        assert_eq!(room.settles(650), ["d"]);
    }

    #[test]
    fn who_has_a_turn_keeps_it_from_file_to_file() {
        let mut room = Room::of(1);
        assert_eq!(room.asks(0, 1, "a1"), ["a1"]);
        assert!(room.asks(0, 2, "b").is_empty());
        assert!(room.ends(100, "a1").is_empty());
        assert_eq!(room.asks(200, 1, "a2"), ["a2"], "before b, which came earlier");
        assert!(room.ends(1000, "a2").is_empty());
        assert_eq!(room.settles(1250), ["b"]);
        assert!(room.asks(1260, 1, "a3").is_empty(), "too late");
    }

    #[test]
    fn many_connections_are_no_more_than_a_few() {
        let mut room = Room::of(2);
        let names = ["a1", "a2", "a3", "a4", "a5", "a6"];
        let admitted: Vec<_> = names.into_iter().flat_map(|name| room.asks(0, 1, name)).collect();
        assert_eq!(admitted, names[..Turns::<()>::STREAMS]);
        assert_eq!(room.asks(0, 2, "b"), ["b"], "behind a5 and a6, which wait for a1 to a4");
        assert_eq!(room.ends(10, "a2"), ["a5"]);
    }

    #[test]
    fn a_slow_reader_loses_its_turn_and_a_quick_one_does_not() {
        let mut room = Room::of(2);
        room.asks(0, 1, "slow");
        room.asks(0, 2, "quick");
        assert!(room.asks(10, 3, "next").is_empty());
        room.places["slow"].moved(LEAST - 1);
        room.places["quick"].moved(LEAST);
        assert!(room.settles(1999).is_empty());
        assert_eq!(room.settles(2000), ["next"]);
        // What the slow one still gets is nobody's business any more, nor is its end.
        assert!(room.asks(2001, 4, "last").is_empty());
        assert!(room.ends(2010, "slow").is_empty());
        room.places["next"].moved(LEAST);
        assert_eq!(room.settles(4000), ["last"], "quick has stalled");
    }

    #[test]
    fn the_end_of_an_old_turn_does_not_shorten_a_new_one() {
        let mut room = Room::of(1);
        room.asks(0, 1, "a1");
        room.asks(1, 2, "b");
        assert_eq!(room.settles(2000), ["b"]);
        assert!(room.ends(2100, "b").is_empty());
        assert_eq!(room.asks(2400, 1, "a2"), ["a2"]);
        assert!(room.asks(2401, 2, "c").is_empty());
        assert!(room.ends(2500, "a1").is_empty());
        assert!(room.settles(3000).is_empty(), "a2 is under way");
    }

    #[test]
    fn nobody_keeps_a_turn_for_ever() {
        let mut room = Room::of(1);
        room.asks(0, 1, "a");
        assert!(room.asks(5, 2, "b").is_empty());
        for second in 1..300 {
            room.places["a"].moved(LEAST);
            assert!(room.settles(second * 1000).is_empty());
        }
        room.places["a"].moved(LEAST);
        assert_eq!(room.settles(300_000), ["b"]);
    }

    /// One turn, which client 0 has, and a line in which `waiting` may stand; tickets are numbers.
    fn held(waiting: usize) -> (Turns<usize>, Instant) {
        let (mut turns, now) = (Turns::new(1, waiting), Instant::now());
        turns.ask(client(0), Asker::Agent, 0).unwrap();
        assert_eq!(turns.settle(now).len(), 1);
        (turns, now)
    }

    fn client(n: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(n as u32)
    }

    #[test]
    fn the_queue_is_bounded() {
        let (mut turns, now) = held(20);
        let all = (1..=20).all(|n| turns.ask(client(n), Asker::Program, n).is_ok());
        assert!(all && turns.settle(now).is_empty());
        assert_eq!(turns.ask(client(21), Asker::Program, 7), Err(7));
        assert_eq!(turns.ask(client(21), Asker::Agent, 7), Err(7));
        turns.strike(|n| *n == 3);
        assert_eq!(turns.ask(client(21), Asker::Agent, 7), Ok(()), "a place became free");
    }

    #[test]
    fn who_does_not_know_refusals_waits_in_any_case() {
        let (mut turns, _) = held(1);
        turns.ask(client(1), Asker::Program, 1).unwrap();
        assert!((2..100).all(|n| turns.ask(client(n), Asker::Loader, n).is_ok()));
        let all = (0..Turns::<usize>::QUEUE_OF_ONE).all(|n| turns.ask(client(1000), Asker::Loader, n).is_ok());
        assert!(all);
        assert_eq!(turns.ask(client(1000), Asker::Loader, 7), Err(7), "from one address nobody boots so often");
    }

    #[test]
    fn who_has_a_turn_is_not_refused_for_those_who_wait() {
        let (mut turns, now) = held(1);
        turns.ask(client(1), Asker::Agent, 1).unwrap();
        for n in 1..Turns::<usize>::STREAMS {
            assert_eq!(turns.ask(client(0), Asker::Agent, n), Ok(()));
            assert_eq!(turns.settle(now).len(), 1);
        }
        assert_eq!(turns.ask(client(0), Asker::Agent, 7), Err(7), "it has all its streams");
    }

    #[test]
    fn one_request_of_an_agent_waits() {
        let (mut turns, _) = held(20);
        assert_eq!(turns.ask(client(1), Asker::Agent, 1), Ok(()));
        assert_eq!(turns.ask(client(1), Asker::Agent, 2), Err(2));
        assert_eq!(turns.ask(client(2), Asker::Agent, 3), Ok(()));
        assert_eq!(turns.ask(client(1), Asker::Program, 4), Ok(()));
    }

    #[test]
    fn nobody_has_the_queue_for_himself() {
        let (mut turns, _) = held(100);
        let all = (0..Turns::<usize>::QUEUE_OF_ONE).all(|n| turns.ask(client(1), Asker::Program, n).is_ok());
        assert!(all);
        assert_eq!(turns.ask(client(1), Asker::Program, 7), Err(7));
        assert_eq!(turns.ask(client(2), Asker::Program, 8), Ok(()));
    }
}
