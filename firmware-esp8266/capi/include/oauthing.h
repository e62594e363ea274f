/* OAuthing for a shell that owns Wi-Fi: the device's life (claim, tokens, TLS with pinned servers, MQTT, storage) in a static
 * library for the ESP8266. The shell gives it a clock, random numbers, one TCP socket and two sectors of flash; see
 * docs/device.md and example/.
 *
 * Everything happens inside oauthing_run(), which calls back; nothing here may be called from a callback but what says so.
 * Pointers given to callbacks are valid until the callback returns. Text is UTF-8 and ends with a zero byte. */
#ifndef OAUTHING_H
#define OAUTHING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; oauthing_abi() tells the library's. */
#define OAUTHING_ABI 1u

/* Bytes of a slot in flash. Two slots, each in sectors of its own. */
#define OAUTHING_SLOT 1198u

/* Longest channel name, without the zero byte. */
#define OAUTHING_CHANNEL 64u

/* No time in particular. */
#define OAUTHING_NEVER UINT64_MAX

/* Why `wait` returns. */
typedef enum {
  OAUTHING_TIME = 0,     /* the time has come, or nothing in particular */
  OAUTHING_READABLE = 1, /* bytes came, or the server closed the connection */
  OAUTHING_INPUT = 2     /* `input` was filled in */
} oauthing_event;

typedef enum {
  OAUTHING_PRESS = 0,      /* short press: opens a claim window */
  OAUTHING_LONG_PRESS = 1, /* long press: gives up ownership */
  OAUTHING_PUBLISH = 2,    /* a reading */
  OAUTHING_REPORT = 3,     /* payload: a JSON merge patch for the shadow */
  OAUTHING_STOP = 4        /* hang up and return from oauthing_run() */
} oauthing_input_kind;

/* What the board wants. The pointers must stay valid until the next callback. */
typedef struct {
  uint32_t kind;          /* oauthing_input_kind */
  const char *channel;    /* OAUTHING_PUBLISH */
  const uint8_t *payload; /* OAUTHING_PUBLISH, OAUTHING_REPORT */
  size_t payload_len;
  bool retain;        /* the owner's broker keeps it as the channel's last value */
  bool at_least_once; /* kept, one at a time, until it is acknowledged: then `delivered` is called */
} oauthing_input;

typedef enum {
  OAUTHING_SEARCHING = 0, /* nobody's, not connected */
  OAUTHING_READY = 1,     /* nobody's, connected: a press opens a claim window */
  OAUTHING_CLAIMABLE = 2, /* a claim window is open: show the code */
  OAUTHING_SETTLING = 3,  /* an owner said yes */
  OAUTHING_JOINING = 4,   /* owned, on the way to the gateway */
  OAUTHING_RENEWING = 5,  /* owned, fetching new tokens */
  OAUTHING_RUNNING = 6,   /* owned and connected */
  OAUTHING_RESETTING = 7  /* given up; the server does not know yet */
} oauthing_phase;

typedef enum {
  OAUTHING_NO_NOTICE = 0,
  OAUTHING_UNREACHABLE = 1,
  OAUTHING_UNTRUSTED = 2,
  OAUTHING_CREDENTIALS_REFUSED = 3,
  OAUTHING_DECLINED = 4,
  OAUTHING_WINDOW_OVER = 5,
  OAUTHING_CLAIM_FAILED = 6,
  OAUTHING_RELEASED = 7,
  OAUTHING_STORAGE_FAILED = 8
} oauthing_notice;

typedef struct {
  uint32_t phase;   /* oauthing_phase */
  uint32_t notice;  /* oauthing_notice: the last thing worth telling a person */
  const char *code; /* the code that the owner has to type, or "" */
  uint64_t code_until; /* when the claim window ends, or OAUTHING_NEVER */
} oauthing_status;

typedef enum {
  OAUTHING_NOT_CONNECTED = 1,
  OAUTHING_BUSY = 2,        /* an earlier message has to be acknowledged or sent first */
  OAUTHING_BAD_CHANNEL = 3, /* not one to four levels of letters, digits, - and _ */
  OAUTHING_TOO_LONG = 4
} oauthing_refusal;

/* The board. Times are milliseconds of `now`. Every callback gets `context`. */
typedef struct {
  void *context;
  /* Milliseconds on a clock that never goes back. */
  uint64_t (*now)(void *context);
  /* Fills `out` with random bytes: from the chip's generator, with the radio on. */
  void (*random)(void *context, uint8_t *out, size_t len);
  /* Opens a TCP connection, in place of one that may still be there; false: not before `by`. */
  bool (*dial)(void *context, const char *host, uint16_t port, uint64_t by);
  /* Whether `read` would return at once. */
  bool (*is_readable)(void *context);
  /* Reads or writes at least one byte and returns how many; 0 or less: the connection has ended, or it is `by`.
   * These wait: let other work run meanwhile, the watchdog's too. */
  int32_t (*read)(void *context, uint8_t *out, size_t len, uint64_t by);
  int32_t (*write)(void *context, const uint8_t *bytes, size_t len, uint64_t by);
  /* Closes the connection, if there is one, after what was written. */
  void (*hang_up)(void *context);
  /* Waits until `until`, for bytes from the server (if `listen`), or for something that the board wants. */
  oauthing_event (*wait)(void *context, uint64_t until, bool listen, oauthing_input *input);
  /* Slot 0 or 1 of the flash. `flash_read` returns how many bytes there were, or less than 0; `flash_write` erases the slot and
   * writes; it may be interrupted at any byte, but must not touch the other slot. */
  int32_t (*flash_read)(void *context, uint32_t slot, uint8_t *out, size_t len);
  bool (*flash_write)(void *context, uint32_t slot, const uint8_t *bytes, size_t len);
  /* A command came on c/<channel>. */
  void (*command)(void *context, const char *channel, const uint8_t *payload, size_t len);
  /* The owner's broker wants a state that was not reported yet: a JSON merge patch. May be null. */
  void (*delta)(void *context, const uint8_t *patch, size_t len);
  /* The status is another one than before. */
  void (*show)(void *context, const oauthing_status *status);
  /* A message with `at_least_once` was acknowledged. May be null. */
  void (*delivered)(void *context);
  /* An input could not be served (oauthing_refusal). May be null. */
  void (*refused)(void *context, uint32_t why);
} oauthing_board;

typedef enum {
  OAUTHING_STOPPED = 0,     /* OAUTHING_STOP */
  OAUTHING_NOT_FLASHED = 1, /* no slot holds a record: flash one */
  OAUTHING_RUNNING_ALREADY = 2,
  OAUTHING_BAD_BOARD = 3 /* a callback is missing */
} oauthing_end;

/* Lives the device's life until the board wants to stop. */
oauthing_end oauthing_run(const oauthing_board *board);

/* Stores the answer of a registration (JSON, RFC 7591) as the device's record; false if it is none, or cannot be stored. For
 * factories that flash over the serial line; the others write the image of `cargo xtask flash-image`. */
bool oauthing_flash(const oauthing_board *board, const uint8_t *registration_answer, size_t len);

/* Whether a lamp that blinks the code is on, `since` milliseconds after it was first shown; `*for_ms`: how long that stays so.
 * May be called from a callback. */
bool oauthing_blink(const char *code, uint64_t since, uint64_t *for_ms);

/* The library's OAUTHING_ABI. May be called from a callback. */
uint32_t oauthing_abi(void);

#ifdef __cplusplus
}
#endif
#endif
