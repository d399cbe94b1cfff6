// Package outbound tells subscribers what changed. In goes a Relay job; outbox
// rows become one delivery per endpoint that wants them, and the endpoints' lanes
// are woken (relay.go). In goes a DeliverEndpoint job, the lane's one job; it
// leases due deliveries, signs and POSTs them side by side past the guard
// (deliver.go, sign.go, guard.go, post.go), and each outcome becomes an attempt
// and a delivery's state in a grouped transaction (record.go). In goes a Redeliver
// job, or an operator's word; deliveries that have ended are opened again
// (redeliver.go, resend.go). Out go signed webhooks, at least once each; what they
// said is forgotten after a while (purge.go).
package outbound
