package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/klamm-io/klamm/wire/msg"
)

// ResourceType says what a config belongs to, as the protocol numbers it.
type ResourceType int8

const (
	TopicResource         ResourceType = 2
	BrokerResource        ResourceType = 4
	ClientMetricsResource ResourceType = 16
	GroupResource         ResourceType = 32
)

// Resource names what a config belongs to. The empty name of a broker means all
// brokers.
type Resource struct {
	Type ResourceType
	Name string
}

// ConfigEntry is a key of a resource.
type ConfigEntry struct {
	Name      string
	Value     *string // nil is null or a secret
	Source    int8    // as DescribeConfigs numbers it
	ReadOnly  bool
	Sensitive bool
	Type      int8
	Doc       string
	Synonyms  []ConfigSynonym
}

// ConfigSynonym is a place that gives, or would give, a key its value.
type ConfigSynonym struct {
	Name   string
	Value  *string
	Source int8
}

// ConfigOp changes one key.
type ConfigOp struct {
	Name  string
	Op    Op
	Value string
}

// Op is what to do with a key.
type Op int8

const (
	SetConfig      Op = iota
	DeleteConfig      // back to the default
	AppendConfig      // to a list
	SubtractConfig    // from a list
)

// DescribeConfigs returns the keys named, or all, of resources. The error joins
// those of single resources.
func (a *Admin) DescribeConfigs(ctx context.Context, resources []Resource, names []string, docs bool) (map[Resource][]ConfigEntry, error) {
	out := make(map[Resource][]ConfigEntry)
	err := a.eachOwner(ctx, "DescribeConfigs", resources, func(ctx context.Context, cn versioned, rs []Resource) error {
		req, resp := &msg.DescribeConfigsRequest{IncludeSynonyms: true, IncludeDocumentation: docs}, new(msg.DescribeConfigsResponse)
		for _, r := range rs {
			req.Resources = append(req.Resources, msg.DescribeConfigsRequestDescribeConfigsResource{ResourceType: int8(r.Type), ResourceName: r.Name, ConfigurationKeys: names})
		}
		if err := cn.Do(ctx, req, resp); err != nil {
			return err
		}
		var errs []error
		for _, r := range resp.Results {
			if err := because(r.ErrorCode, r.ErrorMessage); err != nil {
				errs = append(errs, fmt.Errorf("configs of %s: %w", r.ResourceName, final(err)))
				continue
			}
			res := Resource{ResourceType(r.ResourceType), r.ResourceName}
			out[res] = []ConfigEntry{}
			for _, c := range r.Configs {
				e := ConfigEntry{Name: c.Name, Value: c.Value, Source: c.ConfigSource, ReadOnly: c.ReadOnly, Sensitive: c.IsSensitive, Type: c.ConfigType, Doc: text(c.Documentation)}
				for _, s := range c.Synonyms {
					e.Synonyms = append(e.Synonyms, ConfigSynonym{s.Name, s.Value, s.Source})
				}
				out[res] = append(out[res], e)
			}
		}
		return errors.Join(errs...)
	})
	return out, err
}

// AlterConfigs changes keys of resources, all or none of one resource. The error
// joins those of single resources. With validate nothing is changed.
func (a *Admin) AlterConfigs(ctx context.Context, changes map[Resource][]ConfigOp, validate bool) error {
	var resources []Resource
	for r := range changes {
		resources = append(resources, r)
	}
	return a.eachOwner(ctx, "IncrementalAlterConfigs", resources, func(ctx context.Context, cn versioned, rs []Resource) error {
		req, resp := &msg.IncrementalAlterConfigsRequest{ValidateOnly: validate}, new(msg.IncrementalAlterConfigsResponse)
		for _, r := range rs {
			rr := msg.IncrementalAlterConfigsRequestAlterConfigsResource{ResourceType: int8(r.Type), ResourceName: r.Name}
			for _, op := range changes[r] {
				c := msg.IncrementalAlterConfigsRequestAlterableConfig{Name: op.Name, ConfigOperation: int8(op.Op)}
				if op.Op != DeleteConfig {
					c.Value = &op.Value
				}
				rr.Configs = append(rr.Configs, c)
			}
			req.Resources = append(req.Resources, rr)
		}
		if err := cn.Do(ctx, req, resp); err != nil {
			return err
		}
		var errs []error
		for _, r := range resp.Responses {
			if err := because(r.ErrorCode, r.ErrorMessage); err != nil {
				errs = append(errs, fmt.Errorf("configs of %s: %w", r.ResourceName, final(err)))
			}
		}
		return errors.Join(errs...)
	})
}

// eachOwner runs f with the broker that keeps the configs of each resource: a
// single broker its own, any broker the rest.
func (a *Admin) eachOwner(ctx context.Context, what string, resources []Resource, f func(context.Context, versioned, []Resource) error) error {
	var rest []Resource
	byBroker := make(map[int32][]Resource)
	for _, r := range resources {
		if r.Type != BrokerResource || r.Name == "" {
			rest = append(rest, r)
			continue
		}
		id, err := strconv.ParseInt(r.Name, 10, 32)
		if err != nil || id < 0 {
			return fmt.Errorf("%w: broker %q", ErrConfig, r.Name)
		}
		byBroker[int32(id)] = append(byBroker[int32(id)], r)
	}
	var errs []error
	if len(rest) > 0 {
		errs = append(errs, a.call(ctx, what, func(ctx context.Context) error {
			return a.cl.anyConn(ctx, func(cn versioned) error { return f(ctx, cn, rest) })
		}))
	}
	for id, rs := range byBroker {
		errs = append(errs, a.call(ctx, what, func(ctx context.Context) error {
			if _, known := a.cl.now().brokers[id]; !known {
				if err := a.cl.fresh(ctx); err != nil {
					return err
				}
			}
			cn, err := a.cl.broker(ctx, id, forAdmin)
			if err != nil {
				return err
			}
			return lost(f(ctx, cn, rs), cn)
		}))
	}
	return errors.Join(errs...)
}
