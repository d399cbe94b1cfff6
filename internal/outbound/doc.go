// Package outbound tells subscribers what changed. In goes a Relay job; outbox
// rows become one delivery per endpoint that wants them, and the endpoints' lanes
// are woken, or the turns that are at work in this process told (relay.go, claim.go,
// present.go). In goes a DeliverEndpoint job, the lane's one job; its turn leases due
// deliveries, or gathers them (deliver.go, turn.go, batch.go), makes the endpoint ready (target.go, auth.go), signs and POSTs side by side past the
// guard (form.go, sign.go, guard.go, post.go), and each outcome becomes an attempt, a
// delivery's state and the endpoint's health in a grouped transaction (record.go,
// arrived.go, health.go). In goes a Redeliver job, or an operator's word; deliveries that
// have ended are opened again (redeliver.go, resend.go). Out go signed webhooks, at least once each; what they
// said is forgotten after a while (purge.go).
package outbound
