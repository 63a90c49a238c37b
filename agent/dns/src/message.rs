//! Requests to responses: flags, EDNS, size. Pure.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};

/// What we take and send by UDP: it passes every link unfragmented.
pub(crate) const UDP_PAYLOAD: u16 = 1232;
/// What a client without EDNS takes.
const PLAIN_PAYLOAD: u16 = 512;
const HEADER: usize = 12;

/// A question that can be answered.
#[derive(Debug)]
pub(crate) struct Request {
    id: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    pub(crate) query: Query,
    edns: Option<Edns>,
}

/// What a packet is.
#[derive(Debug)]
pub(crate) enum Packet {
    Request(Request),
    /// A question that is refused, with the answer that says why.
    Refused(Box<Message>),
    /// Not a question: an answer to it could go round for ever.
    Noise,
}

impl Packet {
    pub(crate) fn read(bytes: &[u8]) -> Packet {
        let Some(header) = bytes.get(..HEADER) else { return Packet::Noise };
        let is_response = header[2] & 0x80 != 0;
        if is_response {
            return Packet::Noise;
        }
        let id = u16::from_be_bytes([header[0], header[1]]);
        let Ok(message) = Message::from_vec(bytes) else {
            return refuse(id, OpCode::Query, ResponseCode::FormErr);
        };
        let metadata = message.metadata;
        if metadata.op_code != OpCode::Query {
            return refuse(id, metadata.op_code, ResponseCode::NotImp);
        }
        let [query] = message.queries.as_slice() else {
            return refuse(id, OpCode::Query, ResponseCode::FormErr);
        };
        let request = Request {
            id,
            recursion_desired: metadata.recursion_desired,
            checking_disabled: metadata.checking_disabled,
            query: query.clone(),
            edns: message.edns,
        };
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Packet::Refused(Box::new(request.failure(ResponseCode::BADVERS)));
        }
        if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return Packet::Refused(Box::new(request.failure(ResponseCode::Refused)));
        }
        Packet::Request(request)
    }
}

fn refuse(id: u16, op_code: OpCode, code: ResponseCode) -> Packet {
    Packet::Refused(Box::new(Message::error_msg(id, op_code, code)))
}

impl Request {
    /// An answer about the zone.
    pub(crate) fn authoritative(
        &self,
        code: ResponseCode,
        mut answers: Vec<Record>,
        authority: Option<Record>,
    ) -> Message {
        let mut message = self.failure(code);
        message.metadata.authoritative = true;
        // Clients take the first address: let them not all take the same.
        if answers.len() > 1 && answers.iter().all(|it| it.record_type() == answers[0].record_type()) {
            let turns = usize::from(self.id) % answers.len();
            answers.rotate_left(turns);
        }
        message.answers = answers;
        message.authorities = authority.into_iter().collect();
        message
    }

    /// What another server said, as the answer to this question.
    pub(crate) fn relayed(&self, from: Message) -> Message {
        let mut message = self.failure(from.metadata.response_code);
        message.metadata.authentic_data = from.metadata.authentic_data;
        message.answers = from.answers;
        message.authorities = from.authorities;
        message.additionals = from.additionals;
        // An answer that was kept may have been asked for in other letters.
        for record in message.answers.iter_mut().filter(|it| it.name == *self.query.name()) {
            record.name = self.query.name().clone();
        }
        message
    }

    /// An answer with nothing but its code.
    pub(crate) fn failure(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        if let Some(theirs) = &self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD).set_version(0).set_dnssec_ok(theirs.flags().dnssec_ok);
            message.set_edns(edns);
        }
        message
    }

    pub(crate) fn wants_dnssec(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }

    /// How much the client takes by UDP.
    pub(crate) fn udp_limit(&self) -> usize {
        let wanted = self.edns.as_ref().map_or(PLAIN_PAYLOAD, Edns::max_payload);
        wanted.clamp(PLAIN_PAYLOAD, UDP_PAYLOAD).into()
    }
}

/// The bytes; without what only helps, and cut, when they would be too many.
pub(crate) fn encode(mut message: Message, limit: usize) -> Option<Vec<u8>> {
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    if !message.additionals.is_empty() {
        message.additionals.clear();
        return encode(message, limit);
    }
    message.truncate().to_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, RecordType};

    fn query(change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii("Web.Example.").unwrap(), RecordType::A));
        change(&mut message);
        message.to_vec().unwrap()
    }

    fn request(change: impl FnOnce(&mut Message)) -> Request {
        match Packet::read(&query(change)) {
            Packet::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn edns(payload: u16, version: u8) -> Edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_version(version);
        edns
    }

    fn records(count: u8) -> Vec<Record> {
        let record = |number| {
            Record::from_rdata(
                Name::from_ascii("Web.Example.").unwrap(),
                5,
                RData::A(A([10, 0, 0, number].into())),
            )
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn what_is_refused() {
        let check = |bytes: &[u8], wanted: Option<ResponseCode>| match Packet::read(bytes) {
            Packet::Refused(message) => {
                let bytes = encode(*message, 512).unwrap();
                let message = Message::from_vec(&bytes).unwrap();
                // By number: 16 has two names.
                let code = u16::from(message.metadata.response_code);
                assert_eq!((message.metadata.id, Some(code)), (7, wanted.map(u16::from)));
            }
            Packet::Noise => assert_eq!(wanted, None),
            Packet::Request(request) => panic!("{request:?}"),
        };
        check(&[0; 3], None);
        check(&query(|it| it.metadata.message_type = MessageType::Response), None);
        check(&query(|it| it.metadata.op_code = OpCode::Notify), Some(ResponseCode::NotImp));
        check(&query(|it| it.queries.clear()), Some(ResponseCode::FormErr));
        check(&query(|_| {})[..20], Some(ResponseCode::FormErr));
        check(
            &query(|it| {
                it.set_edns(edns(1232, 1));
            }),
            Some(ResponseCode::BADVERS),
        );
        let chaos = query(|it| {
            it.queries[0].set_query_class(DNSClass::CH);
        });
        check(&chaos, Some(ResponseCode::Refused));
    }

    #[test]
    fn an_answer_repeats_the_question_and_fits() {
        let plain = request(|_| {});
        assert_eq!(
            (
                plain.udp_limit(),
                request(|it| {
                    it.set_edns(edns(4096, 0));
                })
                .udp_limit()
            ),
            (512, 1232)
        );
        let answer = plain.authoritative(ResponseCode::NoError, records(3), None);
        let answer = Message::from_vec(&encode(answer, 512).unwrap()).unwrap();
        assert_eq!(answer.queries[0].name().to_string(), "Web.Example.");
        assert!(
            answer.metadata.authoritative && answer.metadata.recursion_desired && !answer.metadata.truncation
        );
        assert_eq!((answer.answers.len(), answer.edns.is_none()), (3, true));
        assert_eq!(answer.answers[0].data.to_string(), "10.0.0.1", "turned by the question's number");

        let mut full = plain.authoritative(ResponseCode::NoError, records(20), None);
        full.additionals = records(20);
        let full = Message::from_vec(&encode(full, 512).unwrap()).unwrap();
        assert_eq!((full.answers.len(), full.additionals.len(), full.metadata.truncation), (20, 0, false));
        let long = plain.authoritative(ResponseCode::NoError, records(100), None);
        let cut = encode(long.clone(), 512).unwrap();
        assert!(cut.len() <= 512 && Message::from_vec(&cut).unwrap().metadata.truncation);
        assert_eq!(Message::from_vec(&encode(long, 65_535).unwrap()).unwrap().answers.len(), 100);
    }

    #[test]
    fn edns_is_answered_by_edns() {
        let answer = request(|it| {
            it.set_edns(edns(4096, 0));
        })
        .authoritative(ResponseCode::NXDomain, vec![], None);
        let answer = Message::from_vec(&encode(answer, 1232).unwrap()).unwrap();
        assert_eq!(answer.edns.unwrap().max_payload(), UDP_PAYLOAD);
    }
}
