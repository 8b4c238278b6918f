package prim

import "crypto/rand"

// RandomUUID returns a random UUID that is not one of Kafka's reserved ones.
func RandomUUID() (u UUID) {
	for {
		rand.Read(u[:])
		if !u.IsZero() && u.String()[0] != '-' { // Kafka avoids a leading dash: it reads as a flag in a shell
			return u
		}
	}
}
