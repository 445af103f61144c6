//! The one door for every change: routes, types and the client.
