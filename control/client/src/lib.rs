//! What every client of the API shares: transports, informers over slim views, work queues, events.
