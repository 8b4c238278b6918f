package meta

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/wire/msg"
)

// controllerKeys is what the keys of controllers begin with.
const controllerKeys = 27

// keptKey returns the key under which the image keeps a record of something
// that klamm mostly does not act on, and whether the record removes what has that key.
// ok is false for every other record.
//
// Such records come from the metadata log of a JVM broker. They stay in every
// snapshot, so that none is lost when the directory goes back to that broker.
func keptKey(r Record) (key []byte, remove, ok bool) {
	of := func(type_ byte, id string) []byte { return append([]byte{type_}, id...) }
	switch r := r.(type) {
	case *msg.DelegationTokenRecord:
		return of(10, r.TokenId), false, true
	case *msg.RemoveDelegationTokenRecord:
		return of(10, r.TokenId), true, true
	case *msg.UserScramCredentialRecord:
		return of(11, string(rune(r.Mechanism))+r.Name), false, true
	case *msg.RemoveUserScramCredentialRecord:
		return of(11, string(rune(r.Mechanism))+r.Name), true, true
	case *msg.ClientQuotaRecord:
		return of(14, quotaKey(r)), r.Remove, true
	case *msg.AccessControlEntryRecord:
		return of(18, string(r.Id[:])), false, true
	case *msg.RemoveAccessControlEntryRecord:
		return of(18, string(r.Id[:])), true, true
	case *msg.RegisterControllerRecord:
		return of(controllerKeys, string(brokerKey(r.ControllerId))), false, true
	}
	return nil, false, false
}

// quotaKey names one value of one entity, whose parts have no order.
func quotaKey(r *msg.ClientQuotaRecord) string {
	parts := slices.Clone(r.Entity)
	slices.SortFunc(parts, func(a, b msg.ClientQuotaRecordEntityData) int { return cmp.Compare(a.EntityType, b.EntityType) })
	var key strings.Builder
	for _, p := range parts {
		key.WriteString(strconv.Quote(p.EntityType))
		if p.EntityName != nil {
			key.WriteByte('=')
			key.WriteString(strconv.Quote(*p.EntityName))
		} // else the default of that type
		key.WriteByte(' ')
	}
	return key.String() + r.Key
}

// keep keeps a record that klamm does not act on, or drops the one that it
// removes. It reports whether the record is of that kind.
func (c *change) keep(r Record) bool {
	key, remove, ok := keptKey(r)
	switch {
	case !ok:
	case remove:
		c.kept.Delete(key)
	default:
		c.kept.Insert(key, r)
	}
	return ok
}

// Kept returns the records of what klamm does not act on: delegation tokens,
// SCRAM credentials, client quotas, ACLs and controllers, in this order. The
// caller must not change them.
func (m *Image) Kept() []Record {
	out := make([]Record, 0, m.kept.Len())
	it := m.kept.Root().Iterator()
	for _, r, ok := it.Next(); ok; _, r, ok = it.Next() {
		out = append(out, r.(Record))
	}
	return out
}

// Controllers returns the registrations of controllers, in order of id. The caller must not
// change them.
func (m *Image) Controllers() (out []*msg.RegisterControllerRecord) {
	it := m.kept.Root().Iterator()
	it.SeekPrefix([]byte{controllerKeys})
	for _, r, ok := it.Next(); ok; _, r, ok = it.Next() {
		out = append(out, r.(*msg.RegisterControllerRecord))
	}
	return out
}

// Controller returns the registration of a controller, nil if there is none.
func (m *Image) Controller(id int32) *msg.RegisterControllerRecord {
	r, _ := m.kept.Get(append([]byte{controllerKeys}, brokerKey(id)...))
	c, _ := r.(*msg.RegisterControllerRecord)
	return c
}
