// Package inbound turns webhook bytes into event rows and jobs. In go requests;
// zoho.go checks them in a fixed order (size and type, proof of the sender,
// shape) and answers. What is accepted goes to ingest.go as a Delivery; out come,
// in one grouped transaction, a row in events and a ProcessEvent job for each
// record that was not stored before. The sender's 200 is written after that
// commit, never before.
//
// share.go keeps the senders apart: one that sends more than its share waits for itself.
//
// products.go is a second door, for Zoho's products that sign: there the proof is
// one of product_verify.go, and every body that has it is stored, and not worked.
//
// memory.go is the door for other memory systems: memory_verify.go asks for all that
// is configured, memory_parse.go brings four shapes into that of our own webhooks.
package inbound
