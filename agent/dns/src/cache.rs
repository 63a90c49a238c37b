//! What other servers said, for a short time.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Changes elsewhere are seen soon; the node's own resolver is the one that keeps things for long.
const LONGEST: Duration = Duration::from_secs(30);
const CAPACITY: usize = 1024;

/// What was asked; the name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
    pub(crate) class: DNSClass,
    /// Signatures are wanted with the answer.
    pub(crate) dnssec: bool,
}

struct Kept {
    message: Message,
    since: Instant,
    until: Instant,
}

#[derive(Default)]
pub(crate) struct Cache(HashMap<Question, Kept>);

impl Cache {
    /// The answer, with its records' times as they are now.
    pub(crate) fn find(&self, question: &Question, now: Instant) -> Option<Message> {
        let kept = self.0.get(question).filter(|kept| now < kept.until)?;
        let mut message = kept.message.clone();
        let age = u32::try_from(now.duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    /// Keeps an answer as long as its records allow.
    pub(crate) fn keep(&mut self, question: Question, message: &Message, now: Instant) {
        let Some(time) = lifetime(message) else { return };
        if self.0.len() >= CAPACITY {
            self.0.retain(|_, kept| now < kept.until);
        }
        if self.0.len() >= CAPACITY {
            self.0.clear(); // more names in use than fit: they come again as they are asked for
        }
        self.0
            .insert(question, Kept { message: message.clone(), since: now, until: now + time.min(LONGEST) });
    }
}

fn lifetime(message: &Message) -> Option<Duration> {
    let seconds = match message.metadata.response_code {
        _ if message.metadata.truncation => None,
        ResponseCode::NoError if !message.answers.is_empty() => message.answers.iter().map(|it| it.ttl).min(),
        // A negative answer says itself how long it holds; one that does not is not kept.
        ResponseCode::NoError | ResponseCode::NXDomain => message.authorities.iter().find_map(negative),
        _ => None,
    };
    seconds.filter(|it| *it > 0).map(|it| Duration::from_secs(it.into()))
}

fn negative(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::{A, SOA};

    fn question() -> Question {
        Question {
            name: Name::from_ascii("a.b.").unwrap(),
            kind: RecordType::A,
            class: DNSClass::IN,
            dnssec: false,
        }
    }

    fn message(code: ResponseCode, answer_ttl: Option<u32>, soa: Option<(u32, u32)>) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        let name = question().name;
        let answer = |ttl| Record::from_rdata(name.clone(), ttl, RData::A(A([1, 2, 3, 4].into())));
        message.answers.extend(answer_ttl.map(answer));
        message.authorities.extend(soa.map(|(ttl, minimum)| {
            let soa = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, minimum);
            Record::from_rdata(name.clone(), ttl, RData::SOA(soa))
        }));
        message
    }

    #[test]
    fn how_long_an_answer_is_kept() {
        let check = |message: Message, after: u64, wanted: bool| {
            let (mut cache, now) = (Cache::default(), Instant::now());
            cache.keep(question(), &message, now);
            assert_eq!(
                cache.find(&question(), now + Duration::from_secs(after)).is_some(),
                wanted,
                "{message} {after}"
            );
        };
        use ResponseCode::{NXDomain, NoError, ServFail};
        check(message(NoError, Some(10), None), 9, true);
        check(message(NoError, Some(10), None), 10, false);
        check(message(NoError, Some(3600), None), 29, true);
        check(message(NoError, Some(3600), None), 30, false);
        check(message(NoError, Some(0), None), 0, false);
        check(message(NXDomain, None, Some((20, 7))), 6, true);
        check(message(NXDomain, None, Some((20, 7))), 7, false);
        check(message(NXDomain, None, None), 0, false);
        check(message(NoError, None, Some((5, 60))), 4, true);
        check(message(ServFail, Some(10), None), 0, false);
    }

    #[test]
    fn records_grow_old_and_the_cache_stays_small() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep(question(), &message(ResponseCode::NoError, Some(20), None), now);
        let found = cache.find(&question(), now + Duration::from_secs(5)).unwrap();
        assert_eq!(found.answers[0].ttl, 15);
        for number in 0..3000 {
            let name = Name::from_ascii(format!("n{number}.")).unwrap();
            cache.keep(Question { name, ..question() }, &message(ResponseCode::NoError, Some(20), None), now);
        }
        assert!(cache.0.len() <= CAPACITY);
    }
}
