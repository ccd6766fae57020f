use std::collections::VecDeque;

use aws_smithy_types::body::SdkBody;

use super::*;
use crate::model::fault::Side;

/// Pieces as planned; `None` never becomes ready.
struct Planned(VecDeque<Option<Result<Bytes, Fault>>>);

impl Stream for Planned {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.front() {
            Some(None) => Poll::Pending,
            Some(Some(_)) => Poll::Ready(self.0.pop_front().flatten()),
            None => Poll::Ready(None),
        }
    }
}

impl Body for Planned {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.poll_next(context).map(|next| next.map(|piece| piece.map(Frame::data)))
    }
}

fn site() -> Site {
    Site::new(Side::Source, "read object")
}

fn piece(text: &'static str) -> Option<Result<Bytes, Fault>> {
    Some(Ok(Bytes::from_static(text.as_bytes())))
}

fn planted() -> Fault {
    Fault::new(FaultKind::Corrupt, Side::Source, "read object", "planted")
}

async fn delivered(plan: Vec<Option<Result<Bytes, Fault>>>, skip: u64, take: u64) -> (String, Option<FaultKind>) {
    let body = SdkBody::from_body_1_x(Planned(plan.into()));
    let mut stream = Pieces::stream(body, Window { skip, take }, site());
    let mut text = String::new();
    while let Some(next) = stream.next().await {
        match next {
            Ok(piece) => {
                assert!(!piece.is_empty());
                text.push_str(std::str::from_utf8(&piece).unwrap());
            }
            Err(fault) => {
                assert!(stream.next().await.is_none(), "a fault is the last word");
                return (text, Some(fault.kind));
            }
        }
    }
    (text, None)
}

#[tokio::test]
async fn exactly_the_window_is_delivered() {
    let plan = || vec![piece("abc"), piece(""), piece("defg"), piece("hij")];
    assert_eq!(delivered(plan(), 0, 10).await, ("abcdefghij".to_owned(), None));
    for skip in 0..=10_u64 {
        for take in 0..=(10 - skip) {
            let expected = &"abcdefghij"[usize::try_from(skip).unwrap()..usize::try_from(skip + take).unwrap()];
            assert_eq!(delivered(plan(), skip, take).await, (expected.to_owned(), None), "{skip} {take}");
        }
    }
}

#[tokio::test]
async fn a_short_or_broken_body_is_a_fault() {
    let short = delivered(vec![piece("abc")], 0, 4).await;
    assert_eq!(short, ("abc".to_owned(), Some(FaultKind::Transient)));
    let broken = delivered(vec![piece("abc"), Some(Err(planted()))], 0, 4).await;
    assert_eq!(broken, ("abc".to_owned(), Some(FaultKind::Transient)));
}

#[tokio::test(start_paused = true)]
async fn a_silent_body_is_given_up_but_a_slow_reader_is_not() {
    let before = Instant::now();
    let silent = delivered(vec![piece("abc"), None], 0, 4).await;
    assert_eq!(silent, ("abc".to_owned(), Some(FaultKind::Transient)));
    assert!(before.elapsed() >= SILENCE && before.elapsed() < SILENCE * 2);

    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    struct Channel(tokio::sync::mpsc::Receiver<Bytes>);
    impl Body for Channel {
        type Data = Bytes;
        type Error = Fault;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
            self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }
    let mut stream = Pieces::stream(SdkBody::from_body_1_x(Channel(receiver)), Window { skip: 0, take: 2 }, site());
    sender.send(Bytes::from_static(b"a")).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    tokio::time::sleep(SILENCE * 3).await;
    let late = async {
        tokio::time::sleep(SILENCE / 2).await;
        sender.send(Bytes::from_static(b"b")).await.unwrap();
    };
    let (next, ()) = tokio::join!(stream.next(), late);
    assert_eq!(next.unwrap().unwrap(), Bytes::from_static(b"b"));
}

async fn sent(plan: Vec<Option<Result<Bytes, Fault>>>, length: u64) -> (String, Option<Fault>) {
    let progress = Progress::default();
    let mut body = Box::pin(Piped::new(ByteStream::new(Planned(plan.into())), length, progress.clone(), site()));
    let mut text = String::new();
    // As an HTTP client does: nothing is asked for beyond the announced length.
    while (text.len() as u64) < length {
        assert_eq!(body.size_hint().exact(), Some(length - text.len() as u64));
        assert!(!body.is_end_stream());
        match std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            Some(Ok(frame)) => text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap()),
            Some(Err(_)) => return (text, progress.fault()),
            None => panic!("ended at {} of {length}", text.len()),
        }
    }
    assert!(body.is_end_stream());
    (text, progress.fault())
}

#[tokio::test]
async fn a_pipe_hands_over_its_length_and_no_last_piece_before_the_end() {
    let good = sent(vec![piece("ab"), piece(""), piece("cd")], 4).await;
    assert_eq!(good, ("abcd".to_owned(), None));
    let late = sent(vec![piece("ab"), piece("cd"), Some(Err(planted()))], 4).await;
    assert_eq!(late, ("ab".to_owned(), Some(planted())));
    let (text, short) = sent(vec![piece("ab")], 4).await;
    assert_eq!((text.as_str(), short.unwrap().kind), ("ab", FaultKind::Transient));
    for long in [vec![piece("ab"), piece("cde")], vec![piece("ab"), piece("cd"), piece("e")]] {
        let (text, fault) = sent(long, 4).await;
        assert_eq!((text.as_str(), fault.unwrap().kind), ("ab", FaultKind::Corrupt));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_upload_is_given_up_a_moving_one_is_not() {
    let progress = Progress::default();
    let stuck = progress.watch(site(), 10, std::future::pending::<Result<(), Fault>>()).await.unwrap_err();
    assert_eq!(stuck.kind, FaultKind::Transient);

    let progress = Progress::default();
    let moving = async {
        for _ in 0..10 {
            tokio::time::sleep(STALL - Duration::from_secs(1)).await;
            progress.handed_over.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(ANSWER - STALL).await;
        Ok(7)
    };
    assert_eq!(progress.watch(site(), 10, moving).await, Ok(7));
}
