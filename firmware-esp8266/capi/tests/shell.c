/* The C ABI, tried in both directions: a shell whose "modem" is the serial line. QEMU connects it to a TCP port, so that what
 * runs here is the whole library, TLS included, against a real server. The emulator's calls are the console and the flash.
 *
 * Exit code 0: every check held, and the device came to wait for its owner and showed a code after a press. */
#include "oauthing.h"
#include <string.h>

#define UART ((volatile uint32_t *)0x9d050020)
#define CYCLES_PER_MS 40000u

int semihosting(uint32_t call, uint32_t a, uint32_t b, uint32_t c);
uint32_t cycles(void);
void leave(uint32_t code);

static int self; /* the context: callbacks must get it back */
static int failed, flash_file, random_file;
static bool dialed, ready, pressed, claimable, stopped, refused_busy, refused_channel;
static uint32_t asked;

static void say(const char *text) { semihosting(4, 1, (uint32_t)text, strlen(text)); }

static void check(bool holds, const char *what) {
  if (!holds) {
    failed++;
    say("FAILED: ");
    say(what);
    say("\n");
  }
}

static int open_file(const char *name) { return semihosting(5, (uint32_t)name, 2, 0); }

static uint64_t now(void *context) {
  static uint32_t last;
  static uint64_t total;
  uint32_t cycle = cycles();
  check(context == &self, "context");
  total += (uint32_t)(cycle - last);
  last = cycle;
  return total / CYCLES_PER_MS;
}

static void random_bytes(void *context, uint8_t *out, size_t len) {
  check(semihosting(3, random_file, (uint32_t)out, len) == (int)len, "random");
  (void)context;
}

static bool dial(void *context, const char *host, uint16_t port, uint64_t by) {
  check(strcmp(host, "localhost") == 0, "host");
  check(port != 0 && by > now(context), "port and time");
  /* The line is up once and for all; when it has broken it does not come back. */
  bool first = !dialed;
  dialed = true;
  return first;
}

static bool is_readable(void *context) {
  (void)context;
  return UART[5] & 1;
}

static int32_t read_bytes(void *context, uint8_t *out, size_t len, uint64_t by) {
  size_t have = 0;
  while (!is_readable(context))
    if (now(context) >= by) return 0;
  while (have < len && is_readable(context)) out[have++] = (uint8_t)UART[0];
  return (int32_t)have;
}

static int32_t write_bytes(void *context, const uint8_t *bytes, size_t len, uint64_t by) {
  (void)context, (void)by;
  for (size_t at = 0; at < len; at++) UART[0] = bytes[at];
  return (int32_t)len;
}

static void hang_up(void *context) { (void)context; }

static oauthing_event wait(void *context, uint64_t until, bool listen, oauthing_input *input) {
  memset(input, 0, sizeof *input);
  if (ready && asked < 3) {
    /* Nobody owns it: readings are refused, whatever they are. */
    static const char *const channels[] = {"temperature", "not a channel", "temperature"};
    input->kind = OAUTHING_PUBLISH;
    input->channel = channels[asked++];
    input->payload = (const uint8_t *)"20.5";
    input->payload_len = 4;
    return OAUTHING_INPUT;
  }
  if (ready && !pressed) {
    pressed = true;
    input->kind = OAUTHING_PRESS;
    return OAUTHING_INPUT;
  }
  if (claimable || now(context) > 300000) {
    stopped = true;
    input->kind = OAUTHING_STOP;
    return OAUTHING_INPUT;
  }
  for (;;) {
    if (listen && is_readable(context)) return OAUTHING_READABLE;
    if (now(context) >= until || now(context) > 300000) return OAUTHING_TIME;
  }
}

static int32_t flash_read(void *context, uint32_t slot, uint8_t *out, size_t len) {
  (void)context;
  check(slot < 2 && len == OAUTHING_SLOT, "flash_read");
  semihosting(19, flash_file, slot * 4096, 0);
  return semihosting(3, flash_file, (uint32_t)out, len);
}

static bool flash_write(void *context, uint32_t slot, const uint8_t *bytes, size_t len) {
  (void)context;
  check(slot < 2 && len <= OAUTHING_SLOT, "flash_write");
  semihosting(19, flash_file, slot * 4096, 0);
  return semihosting(4, flash_file, (uint32_t)bytes, len) == (int)len;
}

static void command(void *context, const char *channel, const uint8_t *payload, size_t len) {
  (void)context, (void)channel, (void)payload, (void)len;
  check(false, "a command without an owner");
}

static void show(void *context, const oauthing_status *status) {
  check(context == &self, "context of show");
  check(status->phase <= OAUTHING_RESETTING && status->notice <= OAUTHING_STORAGE_FAILED, "status");
  ready |= status->phase == OAUTHING_READY;
  check((status->phase == OAUTHING_CLAIMABLE) == (status->code_until != OAUTHING_NEVER), "window");
  if (status->phase == OAUTHING_CLAIMABLE) {
    uint64_t for_ms = 0;
    claimable = true;
    check(strlen(status->code) == 4, "code");
    check(status->code_until > now(context), "code_until");
    check(oauthing_blink(status->code, 0, &for_ms) && for_ms == 1500, "blink");
    check(!oauthing_blink(status->code, 1500, &for_ms) && for_ms == 1500, "blink, dark");
    say("code ");
    say(status->code);
    say("\n");
  }
}

static void refused(void *context, uint32_t why) {
  check(context == &self, "context of refused");
  refused_busy |= why == OAUTHING_NOT_CONNECTED;
  refused_channel |= why == OAUTHING_BAD_CHANNEL;
}

void trapped(uint32_t cause, uint32_t at, uint32_t address) {
  (void)cause, (void)at, (void)address;
  say("trap\n");
  leave(135);
}

int firmware(void) {
  static uint8_t answer[2048];
  oauthing_board board = {
      .context = &self, .now = now, .random = random_bytes, .dial = dial, .is_readable = is_readable,
      .read = read_bytes, .write = write_bytes, .hang_up = hang_up, .wait = wait, .flash_read = flash_read,
      .flash_write = flash_write, .command = command, .show = show, .refused = refused,
  };
  oauthing_board broken = board;
  int registration = open_file("registration.json");
  int len;
  flash_file = open_file("flash.bin");
  random_file = open_file("/dev/urandom");
  UART[2] = 1;

  check(oauthing_abi() == OAUTHING_ABI, "version");
  broken.wait = NULL;
  check(oauthing_run(NULL) == OAUTHING_BAD_BOARD && oauthing_run(&broken) == OAUTHING_BAD_BOARD, "a board without callbacks");
  check(oauthing_run(&board) == OAUTHING_NOT_FLASHED, "blank flash");
  check(!oauthing_flash(&board, (const uint8_t *)"{}", 2), "an answer that is none");
  len = semihosting(3, registration, (uint32_t)answer, sizeof answer);
  check(len > 0 && oauthing_flash(&board, answer, (size_t)len), "flashing");
  check(oauthing_run(&board) == OAUTHING_STOPPED && stopped, "run");
  check(ready && claimable, "the way to a claim window");
  check(refused_busy && refused_channel, "refusals");
  return failed;
}
