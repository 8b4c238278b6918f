package meta

import (
	"maps"
	"reflect"

	iradix "github.com/hashicorp/go-immutable-radix"

	"github.com/klamm-io/klamm/wire/prim"
)

// Diff returns what changed from old to next, for images of which one need not
// have come from the other by one Apply. A topic that was deleted and made again
// under its name is both deleted and new. It costs what the two hold together.
func Diff(old, next *Image) Delta {
	var d Delta
	changed(old.ids, next.ids, func(_ []byte, was, is any) {
		if is == nil {
			d.Deleted = append(d.Deleted, was.(*Topic))
			return
		}
		if d.Topics == nil {
			d.Topics = make(map[prim.UUID]struct{})
		}
		d.Topics[is.(*Topic).ID] = struct{}{}
	}, func(a, b any) bool { return reflect.DeepEqual(a, b) })
	changed(old.configs, next.configs, func(key []byte, _, _ any) {
		if d.Configs == nil {
			d.Configs = make(map[Resource]struct{})
		}
		d.Configs[Resource{ResourceType(key[0]), string(key[1:])}] = struct{}{}
	}, func(a, b any) bool { return maps.Equal(a.(map[string]string), b.(map[string]string)) })
	changed(old.brokers, next.brokers, func(_ []byte, was, is any) {
		if d.Brokers == nil {
			d.Brokers = make(map[int32]struct{})
		}
		if is == nil {
			is = was
		}
		d.Brokers[is.(*Broker).ID] = struct{}{}
	}, func(a, b any) bool { return reflect.DeepEqual(a, b) })
	return d
}

// changed calls f for each key whose values in the two trees differ; nil stands
// for no value.
func changed(old, next *iradix.Tree, f func(key []byte, was, is any), same func(a, b any) bool) {
	before, after := old.Root().Iterator(), next.Root().Iterator()
	ka, va, oka := before.Next()
	kb, vb, okb := after.Next()
	for oka || okb {
		switch {
		case !okb || oka && string(ka) < string(kb):
			f(ka, va, nil)
			ka, va, oka = before.Next()
		case !oka || string(kb) < string(ka):
			f(kb, nil, vb)
			kb, vb, okb = after.Next()
		default:
			if !same(va, vb) {
				f(ka, va, vb)
			}
			ka, va, oka = before.Next()
			kb, vb, okb = after.Next()
		}
	}
}
