//! What every key service promises.

use repl::model::fault::{FaultKind, Side};
use repl::ports::KeyService;

/// With an enabled key of that name; `disable` disables it.
pub(crate) async fn a_key_is_usable_until_it_is_disabled<K: KeyService>(
    keys: &K,
    arn: &str,
    disable: impl AsyncFnOnce(),
) {
    let state = keys.describe(arn).await.unwrap();
    assert_eq!((state.arn.as_str(), state.enabled), (arn, true));
    keys.prove(arn, "any-bucket").await.unwrap();
    let missing = arn.replace(arn.rsplit('/').next().unwrap(), "00000000-0000-0000-0000-000000000000");
    assert_eq!(keys.describe(&missing).await.unwrap_err().kind, FaultKind::KeyUnusable);
    disable().await;
    assert!(!keys.describe(arn).await.unwrap().enabled);
    let fault = keys.prove(arn, "any-bucket").await.unwrap_err();
    assert_eq!((fault.kind, fault.side), (FaultKind::KeyUnusable, Side::Keys), "{fault}");
}
