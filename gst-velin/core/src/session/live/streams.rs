//! Offering, asking for and ending streams, and what the peer's grants say to that.

use super::Live;
use crate::codec::StreamFormat;
use crate::identity::{Grant, Grants, Name};
use crate::session::asks::{AskError, AskId, AskedError, OurAsk};
use crate::session::event::{Ended, Event};
use crate::session::media::{FeedbackTx, MEDIA_OVERHEAD, MediaTx};
use crate::session::streams::{OfferError, Stream};
use crate::session::{OpenStreamError, Role, Shell};
use crate::units::StreamId;
use crate::wire::{
    CloseCode, CloseReason, Copies, FormatOffer, Message, NameGlob, StreamAnswer, StreamDirection,
    StreamKind, StreamOffer, StreamUuid,
};

impl Live {
    pub(in crate::session) fn open_stream(
        &mut self,
        shell: &mut Shell,
        name: Name,
        uuid: StreamUuid,
        formats: Vec<StreamFormat>,
        ask: Option<AskId>,
    ) -> Result<StreamId, OpenStreamError> {
        if self.is_detached() {
            return Err(OpenStreamError::NotOpen);
        }
        if !self.may(Grant::CaptureFromMe) {
            return Err(OpenStreamError::NotPermitted);
        }
        if ask.is_some_and(|ask| !self.asks.wants(ask, name.as_str())) {
            return Err(OpenStreamError::NotAsked);
        }
        let mtu = self.mtu(shell);
        if formats.iter().any(|format| format.block_bytes() + MEDIA_OVERHEAD > mtu) {
            return Err(OpenStreamError::TooLarge);
        }
        let offers = formats.iter().map(FormatOffer::of).collect();
        let Some(id) = self.streams.offer(formats) else {
            if self.streams.is_used_up() && self.renewal.take() {
                shell.events.push_back(Event::RenewalDue);
            }
            return Err(OpenStreamError::NoRoom);
        };
        let offer = StreamOffer {
            id: id.0,
            dir: StreamDirection::Send,
            name,
            uuid,
            kind: StreamKind::Playback,
            ask: ask.map(|ask| ask.0),
            formats: offers,
        };
        self.say(shell, &Message::StreamAdd(offer));
        Ok(id)
    }

    pub(in crate::session) fn accept_stream(
        &mut self,
        shell: &mut Shell,
        id: StreamId,
        format: u8,
    ) {
        if self.is_detached() {
            return;
        }
        if !matches!(self.streams.get(id), Some(Stream::Incoming)) {
            return;
        }
        let Some(sealer) = self.epochs.media_sealer(id) else { return };
        let tx = MediaTx::new(id, sealer, self.route.clone(), self.mtu(shell));
        if let Some(stream) = self.streams.get_mut(id) {
            *stream = Stream::Playing { feedback: FeedbackTx(tx) };
        }
        self.epochs.listen(id);
        self.say(shell, &Message::StreamOk(StreamAnswer { id: id.0, format }));
    }

    pub(in crate::session) fn remove_stream(
        &mut self,
        shell: &mut Shell,
        id: StreamId,
        code: CloseCode,
    ) {
        if self.forget_stream(id) {
            self.say(shell, &Message::StreamRemove { id: id.0, code: code.0 });
        }
    }

    pub(in crate::session) fn media_tx(&self, id: StreamId) -> Option<MediaTx> {
        match self.streams.get(id)? {
            Stream::Outgoing { tx } => Some(tx.clone()),
            _ => None,
        }
    }

    pub(in crate::session) fn feedback_tx(&self, id: StreamId) -> Option<FeedbackTx> {
        match self.streams.get(id)? {
            Stream::Playing { feedback } => Some(feedback.clone()),
            _ => None,
        }
    }

    pub(in crate::session) fn want_copies(
        &mut self,
        shell: &mut Shell,
        id: StreamId,
        copies: Copies,
    ) {
        if matches!(self.streams.get(id), Some(Stream::Playing { .. })) {
            self.say(shell, &Message::StreamRepair { id: id.0, copies });
        }
    }

    /// The peer that plays a stream of ours wants copies in it, or none.
    pub(super) fn on_repair_wish(&mut self, shell: &mut Shell, id: StreamId, copies: Copies) {
        // We may have ended the stream in the meantime.
        if matches!(self.streams.get(id), Some(Stream::Outgoing { .. })) {
            shell.events.push_back(Event::CopiesWanted { id, copies });
        }
    }

    pub(in crate::session) fn ask(
        &mut self,
        shell: &mut Shell,
        name: NameGlob,
    ) -> Result<AskId, AskError> {
        if !self.accepted || self.is_detached() {
            return Err(AskError::NotOpen);
        }
        let ask = self.asks.ask(name.clone()).ok_or(AskError::NoRoom)?;
        let dir = StreamDirection::Recv;
        self.say(shell, &Message::StreamAsk { ask: ask.0, dir, name });
        Ok(ask)
    }

    pub(in crate::session) fn withdraw_ask(
        &mut self,
        shell: &mut Shell,
        ask: AskId,
        code: CloseCode,
    ) {
        if self.asks.end_ours(ask) {
            self.say(shell, &Message::AskEnd { ask: ask.0, code: code.0 });
        }
    }

    pub(in crate::session) fn refuse_ask(
        &mut self,
        shell: &mut Shell,
        ask: AskId,
        code: CloseCode,
    ) {
        if self.asks.end_theirs(ask) {
            self.say(shell, &Message::AskEnd { ask: ask.0, code: code.0 });
        }
    }

    pub(in crate::session) fn update_grants(&mut self, shell: &mut Shell, grants: Grants) {
        self.grants = grants;
        let code = CloseCode::PERMISSION;
        let (hear, give) = (self.may(Grant::PlayToMe), self.may(Grant::CaptureFromMe));
        let mut over: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| if stream.is_ours() { !give } else { !hear })
            .map(|(id, _)| id)
            .collect();
        over.sort_unstable();
        for id in over {
            self.remove_stream(shell, id, code);
            let reason = CloseReason::new(code, "");
            shell.events.push_back(Event::StreamRemoved { id, reason });
        }
        if !give {
            for ask in self.asks.end_all_theirs() {
                self.say(shell, &Message::AskEnd { ask: ask.0, code: code.0 });
                shell.events.push_back(Event::AskEnded { ask, code, ours: false });
            }
        }
    }

    pub(super) fn on_ask(
        &mut self,
        shell: &mut Shell,
        ask: AskId,
        dir: StreamDirection,
        name: NameGlob,
    ) -> Result<(), Ended> {
        let refusal = match self.asks.asked(ask, name.clone()) {
            Err(AskedError::Id) => {
                return Err(Ended::PeerMisbehaved("an ask out of order".into()));
            }
            Err(AskedError::Limit) => Some(CloseCode::STREAM_LIMIT),
            Ok(()) if dir != StreamDirection::Recv => Some(CloseCode::CAPS),
            // A caller offers what it has by itself: it has no grants for those it calls.
            Ok(()) if self.role == Role::Caller => Some(CloseCode::PERMISSION),
            Ok(()) if !self.may(Grant::CaptureFromMe) => Some(CloseCode::PERMISSION),
            Ok(()) => None,
        };
        match refusal {
            Some(code) => {
                self.asks.end_theirs(ask);
                self.say(shell, &Message::AskEnd { ask: ask.0, code: code.0 });
            }
            None => shell.events.push_back(Event::StreamAsked { ask, name }),
        }
        Ok(())
    }

    /// The peer refuses our ask or withdraws its own; it may have crossed the same from us.
    pub(super) fn on_ask_end(&mut self, shell: &mut Shell, ask: AskId, code: CloseCode) {
        if self.asks.end_ours(ask) {
            shell.events.push_back(Event::AskEnded { ask, code, ours: true });
        } else if self.asks.end_theirs(ask) {
            shell.events.push_back(Event::AskEnded { ask, code, ours: false });
        }
    }

    pub(super) fn on_offer(&mut self, shell: &mut Shell, offer: StreamOffer) -> Result<(), Ended> {
        let id = StreamId(offer.id);
        let refusal = match self.streams.offered(offer.clone()) {
            Err(OfferError::Id) => {
                return Err(Ended::PeerMisbehaved("a stream id out of order".into()));
            }
            Err(OfferError::Limit) => Some(CloseCode::STREAM_LIMIT),
            Ok(()) => self.refusal(&offer),
        };
        match refusal {
            Some(code) => {
                self.forget_stream(id);
                self.say(shell, &Message::StreamRemove { id: id.0, code: code.0 });
            }
            None => shell.events.push_back(Event::StreamOffered(offer)),
        }
        Ok(())
    }

    pub(super) fn on_answer(
        &mut self,
        shell: &mut Shell,
        answer: StreamAnswer,
    ) -> Result<(), Ended> {
        let id = StreamId(answer.id);
        let Some(Stream::Offered { formats }) = self.streams.get(id) else {
            // We may have taken the offer back in the meantime.
            return Ok(());
        };
        let Some(format) = formats.get(usize::from(answer.format)).cloned() else {
            return Err(Ended::PeerMisbehaved("it chose a format that was not offered".into()));
        };
        let Some(sealer) = self.epochs.media_sealer(id) else { return Ok(()) };
        let tx = MediaTx::new(id, sealer, self.route.clone(), self.mtu(shell));
        if let Some(stream) = self.streams.get_mut(id) {
            *stream = Stream::Outgoing { tx };
        }
        // Reports and requests for repair come back on the same id.
        self.epochs.listen(id);
        shell.events.push_back(Event::StreamAccepted { id, format });
        Ok(())
    }

    /// The peer ends a stream, whichever side opened it.
    pub(super) fn on_stream_end(&mut self, shell: &mut Shell, id: StreamId, code: CloseCode) {
        if self.forget_stream(id) {
            let reason = CloseReason::new(code, "");
            shell.events.push_back(Event::StreamRemoved { id, reason });
        }
    }

    /// Grants restrict listeners; a caller's consent is that it called.
    fn may(&self, grant: Grant) -> bool {
        self.role == Role::Caller || self.grants.contains(grant)
    }

    fn refusal(&self, offer: &StreamOffer) -> Option<CloseCode> {
        if offer.kind == StreamKind::Unknown || offer.dir == StreamDirection::Recv {
            return Some(CloseCode::CAPS);
        }
        match offer.ask.map(|ask| self.asks.answered(AskId(ask), offer.name.as_str())) {
            Some(OurAsk::Ended) => Some(CloseCode::STREAM_UNKNOWN),
            Some(OurAsk::No) => Some(CloseCode::PERMISSION),
            // A caller has consented to what it asks for, not to be played to.
            None if self.role == Role::Caller => Some(CloseCode::PERMISSION),
            Some(OurAsk::Fits) | None => {
                (!self.may(Grant::PlayToMe)).then_some(CloseCode::PERMISSION)
            }
        }
    }

    fn forget_stream(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.remove(id) else { return false };
        self.epochs.retire(id);
        if let Some(tx) = stream.tx() {
            tx.close();
        }
        true
    }
}
