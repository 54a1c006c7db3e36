package main

import "syscall"

// alive tells whether the server has left an idle connection open.
//
// What waits to be read on an idle connection can only be the end of it, but for one never used: there
// the server's session tickets may wait.
func (c *connection) alive() bool {
	raw, err := c.plain.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		var first [1]byte
		n, _, err := syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = err == syscall.EAGAIN || (err == nil && n > 0 && !c.used)
		return true
	})
	return err == nil && open
}
