package cli

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/cmd/klamm/top"
)

// observer asks a cluster for what klamm top shows. Each kind of fact is asked for by itself,
// so that a broker that hangs keeps only what it has to say.
type observer struct {
	a       *client.Admin
	every   time.Duration
	running sync.WaitGroup

	mu     sync.Mutex    // guards the fields below
	paused chan struct{} // closed when the pause ends; nil while there is none
	topics []client.TopicInfo
}

func newObserver(a *client.Admin, every time.Duration) *observer {
	return &observer{a: a, every: every}
}

// lookPatience is how long one look takes at most; what has come by then is shown.
const lookPatience = 4 * time.Second

// configEvery is how often configs are looked at: they seldom change.
const configEvery = 10 * time.Second

// looks look for one kind of fact each, the configs last.
func (o *observer) looks() []func(context.Context) any {
	return []func(context.Context) any{o.metadata, o.ends, o.dirs, o.groups, o.minISR}
}

// start begins to look, until ctx ends. send is called by several goroutines.
func (o *observer) start(ctx context.Context, send func(fact any)) {
	first, once := make(chan struct{}), new(sync.Once) // closed once it is known which topics there are
	for i, look := range o.looks() {
		every := o.every
		if i == len(o.looks())-1 {
			every = max(every, configEvery)
		}
		o.running.Go(func() {
			if i > 0 {
				select {
				case <-first:
				case <-ctx.Done():
					return
				}
			}
			for o.unpaused(ctx) == nil {
				fact := o.once(ctx, look)
				if ctx.Err() != nil {
					return
				}
				send(fact)
				if m, ok := fact.(top.Metadata); ok && m.Err == nil {
					once.Do(func() { close(first) })
				}
				select {
				case <-time.After(every):
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

// wait waits until nothing is asked any more, once ctx has ended.
func (o *observer) wait() { o.running.Wait() }

// once looks once.
func (o *observer) once(ctx context.Context, look func(context.Context) any) any {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	return look(ctx)
}

// all looks for everything once.
func (o *observer) all(ctx context.Context) []any {
	looks := o.looks()
	facts := make([]any, len(looks))
	facts[0] = o.once(ctx, looks[0])
	if m := facts[0].(top.Metadata); m.Err != nil {
		return facts[:1]
	}
	var asking sync.WaitGroup
	for i, look := range looks[1:] {
		asking.Go(func() { facts[i+1] = o.once(ctx, look) })
	}
	asking.Wait()
	return facts
}

// pause has the observer ask for nothing, or go on.
func (o *observer) pause(paused bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case paused && o.paused == nil:
		o.paused = make(chan struct{})
	case !paused && o.paused != nil:
		close(o.paused)
		o.paused = nil
	}
}

// unpaused waits until there is no pause.
func (o *observer) unpaused(ctx context.Context) error {
	for {
		o.mu.Lock()
		paused := o.paused
		o.mu.Unlock()
		if paused == nil {
			return ctx.Err()
		}
		select {
		case <-paused:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o *observer) metadata(ctx context.Context) any {
	m := top.Metadata{Controller: -1}
	if m.Cluster, m.Err = o.a.DescribeCluster(ctx); m.Err == nil {
		m.Topics, m.Err = o.a.ListTopics(ctx)
	}
	if m.Err == nil {
		// The controllers may be without a leader while brokers serve.
		short, cancel := context.WithTimeout(ctx, time.Second)
		if q, err := o.a.DescribeQuorum(short); err == nil {
			m.Controller = q.Leader
		}
		cancel()
		o.mu.Lock()
		o.topics = m.Topics
		o.mu.Unlock()
	}
	m.At, m.Err = time.Now(), brief(m.Err)
	return m
}

// brief is an error as the screen has room for it: its last part that tells something.
func brief(err error) error {
	if text := plain(err); text != "" {
		return said(err, "%s", text)
	}
	if err != nil {
		return said(err, "%s", noAnswer)
	}
	return nil
}

// known returns the topics that there were last.
func (o *observer) known() []client.TopicInfo {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.topics
}

func (o *observer) ends(ctx context.Context) any {
	ask := make(map[client.TopicPartition]client.Position)
	for _, t := range o.known() {
		for _, p := range t.Partitions {
			if p.Leader >= 0 && !slices.Contains(p.Offline, p.Leader) {
				ask[client.TopicPartition{Topic: t.Name, Partition: p.Partition}] = client.AtEnd(0)
			}
		}
	}
	var e top.Ends
	e.Of, e.Err = o.a.ListOffsets(ctx, ask, false)
	e.At, e.Err = time.Now(), brief(e.Err)
	return e
}

func (o *observer) dirs(ctx context.Context) any {
	var d top.Dirs
	d.Dirs, d.Err = o.a.DescribeLogDirs(ctx)
	d.At, d.Err = time.Now(), brief(d.Err)
	return d
}

// groupsAtOnce is how many groups are asked for their offsets at a time.
const groupsAtOnce = 8

func (o *observer) groups(ctx context.Context) any {
	var g top.Groups
	list, err := o.a.ListGroups(ctx)
	g.Err = err
	g.Groups = make([]top.Group, len(list))
	slots := make(chan struct{}, groupsAtOnce)
	errs := make([]error, len(list))
	var asking sync.WaitGroup
	for i, l := range list {
		g.Groups[i] = top.Group{ID: l.ID, State: l.State, Coordinator: l.Coordinator}
		if l.ProtocolType != "consumer" {
			continue
		}
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			offsets, err := o.a.GroupOffsets(ctx, l.ID)
			if errs[i] = err; err != nil {
				return
			}
			of := make(map[client.TopicPartition]int64, len(offsets))
			for tp, at := range offsets {
				of[tp] = at.At
			}
			g.Groups[i].Committed = of
		})
	}
	asking.Wait()
	for _, err := range errs {
		if g.Err == nil {
			g.Err = err
		}
	}
	g.At, g.Err = time.Now(), brief(g.Err)
	return g
}

func (o *observer) minISR(ctx context.Context) any {
	const key = "min.insync.replicas"
	m := top.MinISR{Of: make(map[string]int)}
	var all []client.Resource
	for _, t := range o.known() {
		all = append(all, client.Resource{Type: client.TopicResource, Name: t.Name})
	}
	if len(all) > 0 {
		var described map[client.Resource][]client.ConfigEntry
		described, m.Err = o.a.DescribeConfigs(ctx, all, []string{key}, false)
		for res, entries := range described {
			for _, e := range entries {
				if e.Name == key && e.Value != nil {
					if n, err := strconv.Atoi(*e.Value); err == nil {
						m.Of[res.Name] = n
					}
				}
			}
		}
	}
	m.At, m.Err = time.Now(), brief(m.Err)
	return m
}
