//! Where passwords are hashed: on threads that serve no requests, so many at once, and so many waiting. Who goes away
//! before it is his turn costs nothing.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::Semaphore};

/// How long anybody waits for his turn: a client would not wait longer either.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// There is no place to wait, or waiting takes too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Runs so many jobs at once.
#[derive(Debug)]
pub struct HashQueue {
    /// How many run at once and how many wait, as configured.
    pub size: (usize, usize),
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    handle: Handle,
}

impl HashQueue {
    /// A queue whose jobs run on the blocking threads of a runtime.
    pub fn new(concurrent: usize, waiting: usize, handle: Handle) -> Self {
        Self {
            size: (concurrent, waiting),
            places: Arc::new(Semaphore::new(concurrent.saturating_add(waiting))),
            turns: Arc::new(Semaphore::new(concurrent)),
            handle,
        }
    }

    /// Runs a job when it is its turn. A job that has begun runs to its end, whether anybody waits for it or not; one that
    /// has not is dropped with the wait for it.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Busy)?;
        let turn = tokio::time::timeout(LONGEST_WAIT, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_| Busy)?.map_err(|_| Busy)?;
        let work = move || {
            let _held = (place, turn);
            job()
        };
        // An error means that the runtime ends, or that the job panicked.
        self.handle.spawn_blocking(work).await.map_err(|_| Busy)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    #[tokio::test]
    async fn so_many_run_so_many_wait_and_one_more_is_busy() {
        let queue = Arc::new(HashQueue::new(1, 1, Handle::current()));
        let (release, wait) = mpsc::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move {
                queue
                    .run(move || {
                        let _ = began.send(());
                        let _ = wait.recv();
                        1
                    })
                    .await
            }
        });
        begun.await.unwrap();
        let mut second = Box::pin(queue.run(|| 2));
        assert!(futures_poll(&mut second).await.is_none());
        assert_eq!(queue.run(|| 3).await, Err(Busy));
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(second.await, Ok(2));
        assert_eq!(queue.run(|| 4).await, Ok(4));
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_is_never_run() {
        let queue = Arc::new(HashQueue::new(1, 1, Handle::current()));
        let (release, wait) = mpsc::channel::<()>();
        let mut first = Box::pin(queue.run(move || wait.recv().is_ok()));
        assert!(futures_poll(&mut first).await.is_none());
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let mut second = Box::pin(queue.run(move || count.fetch_add(1, Ordering::Relaxed)));
        assert!(futures_poll(&mut second).await.is_none());
        drop(second);
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
        assert_eq!(queue.run(|| ()).await, Ok(()));
        assert_eq!(ran.load(Ordering::Relaxed), 0);
    }

    /// One poll; `None`: it is not ready.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
