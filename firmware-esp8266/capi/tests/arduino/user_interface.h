/* As Arduino.h: the SDK's generator of random numbers. */
#ifndef USER_INTERFACE_H
#define USER_INTERFACE_H

extern "C" int os_get_random(unsigned char *out, unsigned int len);

#endif
