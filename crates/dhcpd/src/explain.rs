use std::fmt::Write;
use std::time::Duration;

use dhcp_engine::{ClientInfo, Effect, Engine, Ingress, Now, Outcome, Policy, Request, ServerPort, message_name};

use crate::pcap::Packet;

/// What would be answered to each client's message of a capture, and why, as text. The same capture and policy give the same
/// text: leases begin empty, the time is the capture's.
///
/// Messages that no relay forwarded count as coming in by `interface`.
pub fn explain(policy: Policy, interface: &str, packets: &[Packet]) -> String {
    let start = packets.first().map_or(Duration::ZERO, |packet| packet.time);
    let now = |packet: &Packet| Now {
        monotonic_ms: packet.time.saturating_sub(start).as_millis() as u64,
        unix: packet.time.as_secs(),
    };
    let Some(first) = packets.first() else { return "no UDP datagram is in this capture\n".to_owned() };
    let mut engine = Engine::new(policy, [], now(first));
    let mut text = String::new();
    let server_port = |packet: &Packet| {
        [ServerPort::Dhcp, ServerPort::BootServer].into_iter().find(|port| port.number() == packet.destination.port())
    };
    for (packet, port) in packets.iter().filter_map(|packet| Some((packet, server_port(packet)?))) {
        let seconds = packet.time.saturating_sub(start).as_secs_f64();
        // Writing into a String cannot fail; the results below are ignored for that reason.
        let _ = write!(text, "frame {} at {seconds:.3} s: ", packet.frame);
        match Request::parse(&packet.payload) {
            Err(error) => {
                let _ = writeln!(text, "ignored: {error}");
            }
            Ok(request) => {
                let destination = *packet.destination.ip();
                let from = Ingress { interface, source: packet.source, destination, port };
                let outcome = engine.handle(now(packet), &request, from);
                describe(&mut text, &request, &outcome);
                if let Outcome::Act(decision) = &outcome {
                    for effect in &decision.effects {
                        match effect {
                            Effect::SaveLease(lease) => engine.saved([lease]),
                            Effect::Probe { address, .. } => engine.not_in_use(*address),
                            Effect::Send { .. } => {}
                        }
                    }
                }
            }
        }
    }
    if text.is_empty() {
        text.push_str("no message to a DHCP server is in this capture\n");
    }
    text
}

fn describe(text: &mut String, request: &Request<'_>, outcome: &Outcome) {
    let client = ClientInfo::of(request);
    let mac = client.mac.map_or_else(|| "no MAC address".to_owned(), |mac| mac.to_string());
    let firmware = client.firmware.map_or("no firmware known".to_owned(), |firmware| firmware.to_string());
    let message = message_name(request.options.message_type());
    let _ = writeln!(text, "{message} from {mac} ({}, {firmware})", client.class);
    let decision = match outcome {
        Outcome::Ignore(reason) => {
            let _ = writeln!(text, "  not answered: {reason}");
            return;
        }
        Outcome::Act(decision) => decision,
    };
    let address = decision.address.map_or_else(String::new, |address| format!("{address} "));
    let _ = writeln!(text, "  {address}{}", decision.verdict);
    let _ = writeln!(text, "  {}", decision.boot);
    if let Some(circuit) = &decision.circuit {
        let _ = writeln!(text, "  on circuit {circuit} of relay {}", request.giaddr);
    }
    for effect in &decision.effects {
        let _ = match effect {
            Effect::Probe { address, .. } => writeln!(text, "  unless somebody answers for {address}:"),
            Effect::SaveLease(lease) => writeln!(text, "  saved first: {} {}", lease.address, lease.state),
            Effect::Send { reply, from, to } => {
                writeln!(text, "  {} bytes from {from} to {to}\n  options{}", reply.len(), options(reply))
            }
        };
    }
}

/// The options of a reply of ours, in order: code and value, printable texts as such.
fn options(reply: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = reply.get(240..).unwrap_or_default();
    while let [code, length, tail @ ..] = rest
        && *code != 255
    {
        let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        let _ = write!(text, " {code}=");
        let printable = value.len() > 4 && value.strip_suffix(b"\0").unwrap_or(value).iter().all(u8::is_ascii_graphic);
        if printable {
            let _ = write!(text, "{}", value.escape_ascii());
        } else {
            value.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
        }
        rest = tail;
    }
    text
}
