/* The floor for listeners, and the other end of other benchmarks: accepts and closes.
 *
 *   accept ADDRESS PORT [spin|hold]
 *
 * spin: never sleep. To wake a server that slept costs whoever dials it as much as half a check, and
 * only whoever dials slowly enough to let it fall asleep: a difference that would be counted twice.
 * hold: leave it to the other side to close first.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 3 && argc != 4) return 2;
  int spin = argc == 4 && !strcmp(argv[3], "spin"), hold = argc == 4 && !strcmp(argv[3], "hold");
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &here.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 4096)) {
    perror("listen");
    return 1;
  }
  int poller = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
  puts("ready");
  fflush(stdout);
  for (;;) {
    if (epoll_wait(poller, &event, 1, spin ? 0 : -1) < 1) continue;
    if (event.data.fd != fd) {
      close(event.data.fd);
      continue;
    }
    for (int peer; (peer = accept4(fd, 0, 0, SOCK_NONBLOCK)) >= 0;) {
      struct epoll_event end = {.events = EPOLLRDHUP, .data.fd = peer};
      if (hold) epoll_ctl(poller, EPOLL_CTL_ADD, peer, &end);
      else close(peer);
    }
  }
}
