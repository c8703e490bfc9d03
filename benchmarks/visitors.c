/* Visitors, one after the other at each of IN_FLIGHT places: connect, wait until something comes or
 * the other side closes, reset, start over. So none runs ahead of the listener.
 *
 *   visitors ADDRESS PORT COUNT IN_FLIGHT
 *
 * prints: visits a second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in target;
static int poller;

static double wall(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void begin(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct linger reset = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  if (fd < 0 || (connect(fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS)) {
    perror("connect");
    exit(1);
  }
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  long count = atol(argv[3]), started = 0, ended = 0;
  int in_flight = atoi(argv[4]);
  target.sin_family = AF_INET;
  target.sin_port = htons(atoi(argv[2]));
  inet_pton(AF_INET, argv[1], &target.sin_addr);
  poller = epoll_create1(0);
  struct epoll_event ready[256];
  double began = wall();
  for (; started < in_flight && started < count; started++) begin();
  while (ended < count) {
    int n = epoll_wait(poller, ready, 256, -1);
    for (int i = 0; i < n; i++) {
      close(ready[i].data.fd);
      ended++;
      if (started < count) {
        begin();
        started++;
      }
    }
  }
  printf("%.0f\n", count / (wall() - began));
  return 0;
}
