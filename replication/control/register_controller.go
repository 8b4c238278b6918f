package control

import (
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// ControllerRegistration says of a controller which process it is, where it listens and what
// it knows (KIP-919).
type ControllerRegistration struct {
	Controller  int32
	Incarnation prim.UUID // zero for one that only its endpoints are known of
	EndPoints   []EndPoint
	Features    []Feature // nil means those of this version
}

// registersControllers is the first level of metadata.version with records of controllers.
const registersControllers = 15

// RegisterController puts a controller into the metadata, in the place of what they had of it
// (ClusterControlManager.registerController). The first one of a new cluster brings its
// features along.
func RegisterController(f Facts, c ControllerRegistration) ([]meta.Record, error) {
	if c.Features == nil {
		c.Features = Features
	}
	var out []meta.Record
	switch level := f.Image.Feature(metadataVersion); {
	case level == 0:
		out = f.newCluster()
	case level < registersControllers:
		return nil, kerr.Refuse(kerr.UnsupportedVersion, "The current MetadataVersion is too old to support controller registrations.")
	default:
		for _, x := range c.Features {
			if level := f.Image.Feature(x.Name); level != 0 && (level < x.Min || level > x.Max) {
				return nil, kerr.Refuse(kerr.UnsupportedVersion, "Unable to register controller %d because it does not support finalized version %d of %s. The controller wants a version between %d and %d, inclusive.",
					c.Controller, level, x.Name, x.Min, x.Max)
			}
		}
	}
	r := &msg.RegisterControllerRecord{ControllerId: c.Controller, IncarnationId: c.Incarnation}
	for _, e := range c.EndPoints {
		r.EndPoints = append(r.EndPoints, msg.RegisterControllerRecordControllerEndpoint{Name: e.Name, Host: e.Host, Port: uint16(e.Port), SecurityProtocol: e.Protocol})
	}
	for _, x := range c.Features {
		r.Features = append(r.Features, msg.RegisterControllerRecordControllerFeature{Name: x.Name, MinSupportedVersion: x.Min, MaxSupportedVersion: x.Max})
	}
	return append(out, r), nil
}

// MoveController notes where a controller listens, and keeps the rest of its registration. It
// returns nothing if that is known. One that has never registered knows no features, until it
// says which.
func MoveController(f Facts, id int32, at []EndPoint) ([]meta.Record, error) {
	c := ControllerRegistration{Controller: id, EndPoints: at, Features: []Feature{}}
	if old := f.Image.Controller(id); old != nil {
		same := len(old.EndPoints) == len(at)
		for i, e := range old.EndPoints {
			same = same && EndPoint{Name: e.Name, Host: e.Host, Port: int32(e.Port), Protocol: e.SecurityProtocol} == at[i]
		}
		if same {
			return nil, nil
		}
		c.Incarnation = old.IncarnationId
		for _, x := range old.Features {
			c.Features = append(c.Features, Feature{x.Name, x.MinSupportedVersion, x.MaxSupportedVersion})
		}
	}
	return RegisterController(f, c)
}
