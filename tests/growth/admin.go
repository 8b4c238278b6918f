package main

// admin are the cases of what describes and runs a cluster.
var admin = []growth{}
