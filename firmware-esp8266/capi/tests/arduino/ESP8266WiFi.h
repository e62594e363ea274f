/* As Arduino.h. */
#ifndef ESP8266WIFI_H
#define ESP8266WIFI_H

#include "Arduino.h"

typedef enum { WL_CONNECTED = 3 } wl_status_t;
typedef enum { WIFI_STA = 1 } WiFiMode_t;

class ESP8266WiFiClass {
 public:
  wl_status_t status();
  bool mode(WiFiMode_t mode);
  wl_status_t begin();
};
extern ESP8266WiFiClass WiFi;

class WiFiClient {
 public:
  int connect(const char *host, uint16_t port);
  uint8_t connected();
  int available();
  int read(uint8_t *out, size_t size);
  size_t write(const uint8_t *bytes, size_t size);
  void setTimeout(unsigned long ms);
  bool setNoDelay(bool no_delay);
  bool stop(unsigned int max_wait_ms = 0);
};

#endif
